#!/usr/bin/env python3
"""Measures the seconds from the start of a process to its PNG, for the worker and diffusers.

    timing.py MODEL --binary PATH [--repeats 5] [--into FILE]

Both make a picture of 256 x 256 pixels in 20 steps with guidance, in float32 on this machine's
CPU, in turns. Prints the medians and their ratio.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

if __name__ == "__main__":  # started as a program, not imported from the rooms
    sys.path.insert(0, str(Path(__file__).parents[1]))

from judging.evaluate import keep
from judging.lists import Item
from judging.sources import Sampling, load_pipeline, sampled
from posters.poster import Poster

PROMPT = 'Sale poster, headline "SUMMER" in bold red letters on a yellow background'
HOW = Sampling()


def draw(model: Path, out: Path) -> None:
    """Makes one picture with diffusers, as a script would."""
    item = Item(0, Poster(PROMPT, ()), frozenset())
    picture = sampled(load_pipeline(model), [item], HOW)[0]
    Image.fromarray(picture).save(out)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--binary", default="ovis-worker")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--into", type=Path, help="results file to write the figures to")
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.draw:
        draw(args.model, args.draw)
        return 0
    model = str(args.model)
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/picture.png"
        commands = {
            "worker": [
                args.binary, "generate", "--model", model, "--prompt", PROMPT, "--device", "cpu",
                "--steps", str(HOW.steps), "--cfg", str(HOW.guidance), "--out", out,
            ],
            "diffusers": [sys.executable, __file__, model, "--draw", out],
        }  # fmt: skip
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(args.repeats):
            for name, command in commands.items():
                start = time.monotonic()
                subprocess.run(command, check=True, capture_output=True)
                seconds[name].append(time.monotonic() - start)
    medians = {name: round(statistics.median(all_), 2) for name, all_ in seconds.items()}
    ratio = round(medians["worker"] / medians["diffusers"], 3)
    print(f"{medians}, ratio {ratio}, of {args.repeats} each on {os.cpu_count()} cores")
    if args.into:
        figures = {"median_seconds": medians, "ratio": ratio, "repeats": args.repeats}
        keep(args.into, "start_to_png", {**figures, "cores": os.cpu_count()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
