#!/usr/bin/env python3
"""Runs every kind of job on a GPU while the driver is not allowed to compile kernels, and compares
the results with float32 on the CPU. A job that passes cannot be slow at its first use.

    every_path.py --worker PATH/TO/ovis-worker [--model DIR] [--precisions f32 bf16 fp8]
        [--size 256] [--no-reference]

The worker's own kernels are machine code for the supported GPUs. candle's kernels are PTX: the
driver compiles each file of them at its first use on a machine, which takes seconds. Here
`CUDA_DISABLE_PTX_JIT` makes a job that needs one of them fail. f32 is an exception: it only serves
for comparison, and its attention uses candle's kernels. `--model` defaults to the demo model. A
model of another architecture, such as the 7 B model with its larger heads, takes other paths; with
`--no-reference` nothing is compared, for models too large for the CPU.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import torch

import real_worker
from comfy_node import wire
from comfy_node.texts import WorkerError

PROMPT, NEGATIVE = 'a poster with the text "HELLO" in blue letters', "low quality"
STEPS = 6
CFG = 1.5
"""Low, because strong guidance amplifies rounding errors to a different picture."""
ALLOWED = {"f32": 1e-3, "bf16": 0.25}
"""Largest relative errors. The limit of f32 checks the arithmetic of every path, the one of bf16
only that the right path was taken. fp8 has none, because the demo model may draw a different
picture in fp8. The accuracy of fp8 is tested by each kernel's tests, `against_diffusers.py` and
`demo_modes.py`."""


def jobs(worker: real_worker.RealWorker, size: int):
    """Yields every kind of job: its name, and a function that runs it."""
    side = size // 8
    empty = torch.zeros(1, 16, side, side)
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, size, size, 3, generator=generator)
    started = torch.randn(1, 16, side, side, generator=generator)
    mask = torch.zeros(1, side, side)
    mask[:, : side // 2] = 1
    positive, negative = worker.encode([PROMPT]), worker.encode([NEGATIVE])
    # Conditioning with a length other than the negative's.
    longer = torch.cat([positive, negative[:, :9]], 1)

    def denoise(latent=empty, prompt=positive, steps=STEPS, cfg=CFG, **fields):
        return lambda: worker.denoise(
            latent, prompt, negative, seed=7, steps=steps, cfg=cfg, **fields
        )

    yield "encode", lambda: worker.encode([PROMPT])
    yield "encode two", lambda: worker.encode([PROMPT, NEGATIVE])
    yield "vae-encode", lambda: worker.vae_encode(image[:1])
    yield "vae-encode two", lambda: worker.vae_encode(image)
    yield "decode", lambda: worker.decode(started)
    yield "decode two", lambda: worker.decode(torch.cat([started, -started]))
    for sampler in worker.client.connect().result().capabilities.samplers:
        yield f"denoise, {sampler}", denoise(sampler=sampler)
    yield "denoise, cfg 1", denoise(cfg=1.0)
    yield "denoise, prompts of two lengths", denoise(prompt=longer)
    yield "denoise, two images", denoise(latent=empty.repeat(2, 1, 1, 1))
    yield "denoise, guidance interval", denoise(guided=wire.SigmaInterval(0.9, 0.3))
    yield "denoise, leftover noise", denoise(end_step=3, leftover_noise=True)
    yield "denoise, no noise", denoise(latent=started, start_step=2, add_noise=False)
    yield "denoise, of an image", denoise(latent=started, denoise=0.6)
    yield "denoise, mask", denoise(latent=started, noise_mask=mask)
    yield (
        "denoise, mask, two images",
        denoise(latent=started.repeat(2, 1, 1, 1), noise_mask=torch.cat([mask, 1 - mask])),
    )
    for caching in (wire.StepCaching.SAFE, wire.StepCaching.FAST):
        yield f"denoise, cache {caching.name}", denoise(cache=caching, steps=20)
    for kind in (wire.PreviewKind.LINEAR, wire.PreviewKind.VAE):
        preview = wire.PreviewRequest(kind, 128)
        yield f"denoise, preview {kind.name}", denoise(preview=preview)


def run(args: argparse.Namespace, log: Path, **start: object) -> dict[str, torch.Tensor | str]:
    """Runs every kind of job twice on a GPU, once on a CPU, and prints the seconds. Returns the
    result of each job, or its error's message."""
    made = {}
    with real_worker.RealWorker(args.model, log, **start) as worker:
        for name, job in jobs(worker, args.size):
            try:
                begun = time.monotonic()
                made[name] = job()
                first = time.monotonic() - begun
                again = None
                if start["device"] == "cuda":
                    begun = time.monotonic()
                    job()
                    again = time.monotonic() - begun
            except WorkerError as error:
                made[name] = str(error)
                continue
            then = f", then {again:.3f} s" if again is not None else ""
            print(f"  {name}: {first:.3f} s{then}", flush=True)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worker", type=Path, required=True, help="the GPU build of ovis-worker")
    parser.add_argument("--model", type=Path, default=ROOT / "worker" / "demo" / "model")
    parser.add_argument("--precisions", nargs="+", default=["f32", "bf16", "fp8"])
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels")
    parser.add_argument("--no-reference", action="store_true", help="do not compare the results")
    args = parser.parse_args()
    os.environ["OVIS_WORKER_TEST_BIN"] = str(args.worker.resolve())
    real_worker.START_SECONDS = 300
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "worker.log"
        wanted = {}
        if not args.no_reference:
            print("f32 on the CPU", flush=True)
            wanted = run(args, log, device="cpu")
        for precision in args.precisions:
            print(precision, flush=True)
            os.environ["CUDA_DISABLE_PTX_JIT"] = "0" if precision == "f32" else "1"
            made = run(args, log, device="cuda", precision=precision)
            for name, tensor in made.items():
                if isinstance(tensor, str):
                    problems.append(f"{precision}, {name}: {tensor}")
                elif not torch.isfinite(tensor).all():
                    problems.append(f"{precision}, {name}: not finite")
                elif name in wanted:
                    want = wanted[name]
                    error = ((tensor - want).norm() / want.norm()).item()
                    print(f"  {name}: error {error:.2g}", flush=True)
                    if error > ALLOWED.get(precision, math.inf):
                        problems.append(f"{precision}, {name}: error {error:.2g}")
    print("\n".join(problems) or "every path ran, none compiled anything")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
