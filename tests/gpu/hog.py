#!/usr/bin/env python3
"""Tests that a program which takes and gives back GPU memory at random neither fails nor changes
images.

    hog.py OUT.json --worker PATH/TO/ovis-worker [--images 20] [--model PATH] [--precision bf16]
        [--seed 0]

A worker with `--vram auto` draws one image alone, then the others while the hog runs. All latents
must be equal in every bit, and its log must not speak of too little memory after a job has started.
Requires PyTorch with CUDA. Takes a minute with the demo model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import torch

import real_worker

DEMO = ROOT / "worker" / "demo" / "model"
HOG = """
import sys, time, random, torch
random.seed({seed})
torch.cuda.init()
torch.empty(1, device="cuda")
print("ready", flush=True)
taken = 0
while True:
    free, _ = torch.cuda.mem_get_info()
    leave = int(random.uniform(0.2, 4) * 2**30)
    held = None
    try:
        held = torch.empty(max(free - leave, 1), dtype=torch.uint8, device="cuda")
        taken += 1
    except torch.OutOfMemoryError:
        pass
    time.sleep(random.uniform(0.1, 1.0))
    del held
    torch.cuda.empty_cache()
    print(taken, flush=True)
    time.sleep(random.uniform(0.0, 0.5))
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT.json")
    parser.add_argument("--worker", type=Path, required=True, help="the build of ovis-worker")
    parser.add_argument("--model", type=Path, default=DEMO)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ["OVIS_WORKER_TEST_BIN"] = str(args.worker.resolve())
    folder = Path(tempfile.mkdtemp())
    report: dict = {"images": args.images, "failed": [], "differ": []}
    with real_worker.RealWorker(
        args.model, folder / "log", device="cuda", precision=args.precision, vram="auto"
    ) as worker:
        positive, negative = worker.encode(["A poster that says HELLO"]), worker.encode([""])
        empty = torch.zeros(1, 16, args.side // 8, args.side // 8)

        def image() -> tuple[torch.Tensor, torch.Tensor]:
            latent = worker.denoise(empty, positive, negative, seed=7, steps=args.steps, cfg=4.5)
            return latent, worker.decode(latent)

        begun = time.monotonic()
        wanted = image()
        report["seconds_alone"] = round(time.monotonic() - begun, 3)
        hog = subprocess.Popen(
            [sys.executable, "-c", HOG.format(seed=args.seed)], stdout=subprocess.PIPE, text=True
        )
        seconds = []
        try:
            assert hog.stdout.readline().strip() == "ready"
            for number in range(args.images):
                begun = time.monotonic()
                try:
                    found = image()
                except Exception as error:
                    report["failed"].append(f"image {number}: {error}")
                    continue
                seconds.append(round(time.monotonic() - begun, 3))
                same = [torch.equal(a, b) for a, b in zip(wanted, found, strict=True)]
                if not all(same):
                    report["differ"].append(number)
                time.sleep(random.Random(number).uniform(0, 0.2))
        finally:
            hog.kill()
            lines = hog.stdout.read().split()
            report["taken"] = int(lines[-1]) if lines else 0
    report["seconds"] = seconds
    log = (folder / "log").read_text().lower()
    report["out_of_memory_in_log"] = log.count("out of memory") + log.count("out_of_memory")
    args.out.write_text(json.dumps(report, indent=1))
    print(json.dumps(report))
    bad = report["failed"] or report["differ"] or report["out_of_memory_in_log"]
    return bool(bad or report["taken"] == 0)


if __name__ == "__main__":
    sys.exit(main())
