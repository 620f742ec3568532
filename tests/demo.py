"""The main job on a tiny checkpoint: the three nodes' requests to a running worker."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

from comfy_node import wire
from real_worker import RealWorker

MAKER = Path(__file__).with_name("make_tiny_checkpoint.py")
PROMPT = 'a poster with the text "HELLO" in blue letters'
SIZE = 256
STEPS = 20


def main() -> None:
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        print("making a tiny checkpoint with random weights")
        subprocess.run([sys.executable, MAKER, folder], check=True)
        model = Path(folder) / "diffusers"
        with RealWorker(model, Path(folder) / "worker.log", device="cpu") as worker:
            can = worker.client.connect().result().capabilities
            print(f"the worker serves {can.model} on {can.device}: {', '.join(can.operations)}")
            positive, negative = worker.encode([PROMPT]), worker.encode([""])
            print(f"encode: conditioning {list(positive.shape)}")
            empty = torch.zeros(1, 16, SIZE // 8, SIZE // 8)
            latent = worker.denoise(
                empty, positive, negative, seed=42, steps=STEPS, cfg=5.0, events=Progress()
            )
            print(f"denoise: latent {list(latent.shape)}")
            image = worker.decode(latent)
            print(f"decode: image {list(image.shape)}")
    Image.fromarray((image[0] * 255).round().byte().numpy()).save(out)
    print(f"wrote {out}: random weights make a picture of colours, real ones the words")


class Progress(list):
    """Prints the steps of a job instead of keeping its events."""

    def append(self, event: object) -> None:
        if isinstance(event, wire.Progress):
            print(f"  step {event.step}/{event.total}, {event.seconds_left:.1f} s left")


if __name__ == "__main__":
    main()
