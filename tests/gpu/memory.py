#!/usr/bin/env python3
"""Tests that what does not fit a GPU's memory is refused, and that the worker continues.

It tries models, images and batches that are too large, and another program that occupies memory.
Each must be refused before its first step, with one sentence that has the numbers.

    memory.py --worker PATH/TO/ovis-worker

Requires PyTorch with CUDA, for the other program.
"""

from __future__ import annotations

import argparse
import os
import subprocess
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

GIB = 1 << 30
DEMO = ROOT / "worker" / "demo" / "model"
HOLD = """
import sys, torch
held = torch.empty({bytes}, dtype=torch.uint8, device="cuda")
print("held", flush=True)
sys.stdin.read()
"""


class Holder:
    """A program that allocates GPU memory until only `leave` bytes are free."""

    def __init__(self, leave: int) -> None:
        free, _ = torch.cuda.mem_get_info()
        context = 600 << 20
        command = [sys.executable, "-c", HOLD.format(bytes=max(free - leave - context, 1))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout.readline().strip() == "held"

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()


def run(worker: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the worker's command line."""
    return subprocess.run(
        [str(worker), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "RUST_BACKTRACE": "1"},
    )


def check(what: str, text: str, *words: str) -> None:
    """Ends the test unless the output has all the words, is short and has no backtrace."""
    lines = text.strip().splitlines()
    problem = next((word for word in words if word not in text), None)
    if problem or "panicked" in text or "stack backtrace" in text or len(lines) > 40:
        sys.exit(f"{what}: no `{problem}`, or more than a sentence:\n{text}")
    said = [line for line in lines if line.startswith(("error", "hint"))] or lines[-2:]
    print(f"{what}:", *said, sep="\n    ", flush=True)


def refused(worker: real_worker.RealWorker, request: object, **tensors: torch.Tensor) -> str:
    """Submits a request that must be refused, and returns the refusal."""
    try:
        worker.submit(request, **tensors)
    except WorkerError as error:
        return f"error: {error}\nhint: {error.hint}"
    sys.exit(f"{request} was not refused")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", type=Path, required=True)
    binary = parser.parse_args().worker.resolve()
    os.environ["OVIS_WORKER_TEST_BIN"] = str(binary)
    folder = Path(tempfile.mkdtemp())
    random = ("bench", "--random-weights", "ovis-image-7b", "--steps", "1", "--repeats", "1")
    with Holder(12 * GIB):
        result = run(binary, *random, "--precision", "bf16")
        check("the 7 B model in 12 GiB", result.stderr, "GPU memory", "is free", "hint")
    with Holder(16 * GIB):
        result = run(binary, *random, "--precision", "bf16")
        check("the 7 B model in 16 GiB", result.stderr, "GPU memory", "--precision fp8")
    image = (
        "generate",
        "--model",
        DEMO,
        "--prompt",
        "x",
        "--steps",
        "1",
        "--out",
        folder / "x.png",
    )
    with Holder(3 * GIB):
        size = ("--width", 4096, "--height", 4096, "--batch", 4)
        result = run(binary, *image, *size)
        check("4 images of 4096 x 4096 in 3 GiB", result.stderr, "GPU memory", "would fit")
    with real_worker.RealWorker(DEMO, folder / "worker.log", device="cuda") as worker:
        side = 512
        latent = torch.zeros(4, 16, side, side)
        with Holder(GIB // 2):
            time.sleep(6)
            text = refused(worker, wire.DecodeRequest(), latent=latent)
            check("a batch when others hold the memory", text, "GPU memory")
        time.sleep(6)
        begun = time.monotonic()
        worker.decode(torch.zeros(1, 16, 32, 32))
        print(f"and then a job runs: {time.monotonic() - begun:.2f} s", flush=True)
    log = (folder / "worker.log").read_text()
    if "panicked" in log:
        sys.exit(log)
    print("right")


if __name__ == "__main__":
    main()
