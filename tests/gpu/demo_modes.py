#!/usr/bin/env python3
"""Generates the pictures of the demo model's held-out lists in each precision and with each step
cache. OCR reads them later, usually on another machine, because GPU machines rarely have a reader.

    demo_modes.py OUT --worker PATH/TO/ovis-worker [--count N] [--lists english chinese]
        [--modes bf16 fp8 bf16+safe bf16+fast fp8+safe fp8+fast] [--device cuda]
        [--steps 20] [--cache-steps 20 50]

One worker per precision generates the pictures through its websocket. They are written as
`OUT/MODE STEPS/LIST/`. `OUT/report.json` has the seconds per picture and the number of
forward passes that the cache answered. To read them, run in `worker/demo/train`, where a reader is
installed:

    for mode in OUT/*/; do evaluate.py pictures "$mode" --lists english chinese [--limit N] \\
        --steps STEPS --cache CACHE --name "$(basename "$mode")" --into results.json; done
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "worker" / "demo" / "train"
sys.path[:0] = [str(ROOT / "tests"), str(ROOT), str(TRAIN)]

import torch
from PIL import Image

import real_worker
from comfy_node import wire
from judging import lists
from judging.sources import Sampling, file_names

MODES = ["bf16", "fp8", "bf16+safe", "bf16+fast", "fp8+safe", "fp8+fast"]
GUIDANCE = Sampling.guidance


def make_list(worker, name: str, folder: Path, steps: int, cache: str, count: int | None) -> dict:
    """Generates the pictures of a list. Returns its figures."""
    items = lists.read(name)[:count]
    files = file_names(lists.read(name))
    folder.mkdir(parents=True, exist_ok=True)
    denoise = {"steps": steps, "cfg": GUIDANCE, "cache": wire.StepCaching[cache.upper()]}
    negative = worker.encode([""])
    names = ("forwards_total", "forwards_answered_total")
    before = [worker.metric(metric) for metric in names]
    begun, running = time.monotonic(), worker.seconds_running
    for item, file in zip(items, files, strict=False):
        poster = item.poster
        empty = torch.zeros(1, 16, poster.height // 8, poster.width // 8)
        positive = worker.encode([poster.prompt])
        latent = worker.denoise(empty, positive, negative, seed=item.seed, **denoise)
        pixels = (worker.decode(latent)[0] * 255).round().to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / file)
    forwards = [worker.metric(m) - old for m, old in zip(names, before, strict=True)]
    return {
        "pictures": len(items),
        "seconds a picture": round((time.monotonic() - begun) / len(items), 4),
        "of these on the device": round((worker.seconds_running - running) / len(items), 4),
        "forwards a picture": round(forwards[0] / len(items), 1),
        "answered by the cache": round(forwards[1] / len(items), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--worker", type=Path, required=True, help="the build of ovis-worker")
    parser.add_argument("--model", type=Path, default=TRAIN.parent / "model")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--modes", nargs="+", default=MODES, metavar="PRECISION[+CACHE]")
    parser.add_argument("--lists", nargs="+", default=["english", "chinese"])
    parser.add_argument("--count", type=int, help="use only the first N of each list")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cache-steps", type=int, nargs="+", default=[20, 50])
    args = parser.parse_args()
    os.environ["OVIS_WORKER_TEST_BIN"] = str(args.worker.resolve())
    args.out.mkdir(parents=True, exist_ok=True)
    caches: dict[str, list[str]] = {}
    for mode in args.modes:
        precision, _, cache = mode.partition("+")
        caches.setdefault(precision, []).append(cache or "off")
    report = {}
    for precision, kinds in caches.items():
        log = args.out / f"{precision}.log"
        start = {"device": args.device, "precision": precision}
        with real_worker.RealWorker(args.model, log, **start) as worker:
            for cache in kinds:
                for steps in [args.steps] if cache == "off" else args.cache_steps:
                    mode = precision if cache == "off" else f"{precision}+{cache}"
                    for name in args.lists:
                        folder = args.out / f"{mode} {steps}" / name
                        made = make_list(worker, name, folder, steps, cache, args.count)
                        report[f"{mode} {steps}, {name}"] = made
                        # Written after every list: a mode that cannot start ends the run.
                        (args.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
                        print(f"{mode}, {steps} steps, {name}: {made}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
