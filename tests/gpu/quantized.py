#!/usr/bin/env python3
"""Measures precisions in blocks on a GPU: error of latents, seconds of a step, peak memory.

    quantized.py OUT.json --worker PATH/TO/ovis-worker [--kinds q8_0 q4_k ...] [--speed q8_0 q4_k]

The error is that of the demo model's latents relative to bf16's, with the model quantized when it
is loaded. For one type, a file that `quantize` wrote is read too; it may keep more tensors in
full. The speed is `bench` with full-size random weights, beside bf16. OCR of the pictures:
`demo_modes.py --modes bf16 q8_0 q6_k q4_k`. Takes about two minutes on an H200.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "worker" / "demo" / "model"
KINDS = ["q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "q3_k", "q2_k"]
KINDS += ["iq4_nl", "iq4_xs", "fp8"]
FROM_FILE = "q4_k"
"""The type that is also read from a file."""


def run(worker: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(worker), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def latents(worker: Path, folder: Path, *arguments: object) -> torch.Tensor | str:
    """The demo model's latents, or the last line of the refusal."""
    out = folder / "latents.safetensors"
    result = run(
        worker,
        *("generate", "--model", DEMO, "--device", "cuda", "--steps", 8, "--seed", 3),
        *("--prompt", "A poster that says HELLO", "--width", 512, "--height", 512),
        *("--out", folder / "image.png", "--latents-out", out, *arguments),
    )
    if result.returncode:
        return (result.stderr.strip().splitlines() or ["no text"])[-1]
    return load_file(out)["latents"]


def error(found: torch.Tensor | str, wanted: torch.Tensor) -> dict:
    if isinstance(found, str):
        return {"refusal": found}
    return {"error": float((found - wanted).norm() / wanted.norm())}


def speed(worker: Path, precision: str, steps: int) -> dict:
    result = run(
        worker,
        *("bench", "--random-weights", "ovis-image-7b", "--precision", precision),
        *("--steps", steps, "--repeats", 1, "--warmup", 0, "--json"),
    )
    if result.returncode:
        return {"refusal": (result.stderr.strip().splitlines() or ["no text"])[-1]}
    report = json.loads(result.stdout)
    return {
        "step_seconds": report["stages"]["step"]["median"],
        "peak_bytes": report["peak_bytes"],
        "load_seconds": report["load_seconds"],
        "paths": report["paths"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT.json")
    parser.add_argument("--worker", type=Path, required=True, help="the build of ovis-worker")
    parser.add_argument("--kinds", nargs="*", default=KINDS)
    parser.add_argument("--speed", nargs="*", default=["bf16", "fp8", "q8_0", "q4_k"])
    parser.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    worker = args.worker.resolve()
    report: dict = {"latents": {}, "speed": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = latents(worker, folder, "--precision", "bf16")
        if isinstance(wanted, str):
            sys.exit(wanted)
        for kind in args.kinds:
            found = latents(worker, folder, "--precision", kind)
            report["latents"][kind] = error(found, wanted)
            print(kind, report["latents"][kind], flush=True)
            if kind != FROM_FILE or isinstance(found, str):
                continue
            file = folder / "transformer.gguf"
            written = run(worker, "quantize", DEMO / "transformer", file, "--type", kind)
            if written.returncode:
                report["from_file"] = {"refusal": written.stderr.strip().splitlines()[-1]}
                continue
            again = latents(worker, folder, "--transformer", file)
            report["from_file"] = error(again, found)
    for precision in args.speed:
        report["speed"][precision] = speed(worker, precision, args.steps)
        print(precision, report["speed"][precision], flush=True)
        args.out.write_text(json.dumps(report, indent=1))
    args.out.write_text(json.dumps(report, indent=1))
    refused = [kind for kind, found in report["latents"].items() if "refusal" in found]
    print(f"refused: {refused or 'none'}")
    return bool(refused)


if __name__ == "__main__":
    sys.exit(main())
