#!/usr/bin/env python3
"""Compares the worker within a budget of GPU memory with diffusers' off-loading.

    offload.py OUT.json --worker PATH/TO/ovis-worker [--vram 16376MiB] [--steps 50] [--size 1024]
        [--ways model group] [--folder DIR] [--small]

The same full-size random weights (`full_size.py`) in bf16, one image each with guidance, from the
prompt to the picture: the worker with `--vram`, and diffusers with its model off-load and its group
off-load (one block a group, copied by a stream of their own). `--small` tests the script on a CPU,
where diffusers keeps everything.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

PROMPT = 'a poster with the text "HELLO" in blue letters, the quick brown fox jumps over it'
CFG = 5.0


def diffusers(folder: Path, way: str, steps: int, size: int) -> dict:
    """Seconds of an image, without the first, and the most memory that PyTorch had."""
    from diffusers import OvisImagePipeline

    pipeline = OvisImagePipeline.from_pretrained(folder, dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    if way == "model":
        pipeline.enable_model_cpu_offload()
    elif way == "group":
        pipeline.enable_group_offload(
            onload_device=torch.device("cuda"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=True,
        )

    def image(steps: int) -> float:
        begun = time.monotonic()
        pipeline(PROMPT, height=size, width=size, num_inference_steps=steps, guidance_scale=CFG)
        return time.monotonic() - begun

    image(2)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seconds = image(steps)
    peak = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0
    return {"image_seconds": round(seconds, 3), "peak_bytes": peak}


def ours(worker: Path, folder: Path, vram: str | None, steps: int, size: int) -> dict:
    command = [worker, "bench", "--model", folder, "--steps", steps, "--repeats", 1, "--warmup", 1]
    command += ["--width", size, "--height", size, "--json"]
    command += ["--precision", "bf16", "--vram", vram] if vram else []
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if result.returncode:
        return {"error": result.stderr.strip().splitlines()[-2:]}
    report = json.loads(result.stdout)
    return {
        "image_seconds": round(report["stages"]["image"]["median"], 3),
        "peak_bytes": report["peak_bytes"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT.json")
    parser.add_argument("--worker", type=Path, required=True, help="the build of ovis-worker")
    parser.add_argument("--vram", default="16376MiB")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--ways", nargs="+", default=["model", "group"])
    parser.add_argument("--folder", type=Path, help="for the weights; kept for the next run")
    parser.add_argument("--small", action="store_true", help="use a small model on the CPU")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = args.folder or Path(f"/tmp/ovis-smooth-{'small' if args.small else 'full'}")
    if args.way:
        print(json.dumps(diffusers(folder, args.way, args.steps, args.size)))
        return 0
    if not (folder / "model_index.json").exists():
        from gpu import full_size

        full_size.write(folder, small=args.small)
        torch.cuda.empty_cache()
    vram = None if args.small else args.vram
    report = {"worker": ours(args.worker.resolve(), folder, vram, args.steps, args.size)}
    print(json.dumps(report), flush=True)
    # Each in a process of its own, so that it releases its memory.
    for way in ["none"] if args.small else args.ways:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
        report[f"diffusers, {way} off-load"] = found
        if found and "image_seconds" in report["worker"]:
            found["worker / diffusers"] = round(
                report["worker"]["image_seconds"] / found["image_seconds"], 3
            )
        print(way, json.dumps(found), flush=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    return int(any(part is None or "error" in part for part in report.values()))


if __name__ == "__main__":
    sys.exit(main())
