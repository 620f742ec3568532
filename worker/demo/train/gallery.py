#!/usr/bin/env python3
"""Draws the gallery in `worker/demo/README.md`: every prompt once, with seed 0.

gallery.py [--binary ovis-worker] [--model DIR] [--out FOLDER]
"""

import argparse
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

DEMO = Path(__file__).resolve().parents[1]
SEED, STEPS, GUIDANCE = 0, 20, 3.5


@dataclass(frozen=True)
class Exhibit:
    """A picture of the gallery: the name of its file, its prompt, and its size in pixels."""

    name: str
    prompt: str
    width: int = 256
    height: int = 256


EXHIBITS = (
    Exhibit("open", 'a sign that says "OPEN"'),
    Exhibit("crumb", 'Business card for a bakery called "Crumb", elegant gold letters on black'),
    Exhibit("quartz", 'Poster, headline "QUARTZ" in bold dark blue letters on a white background'),
    Exhibit("new-year", "红色海报，白色粗体标题“新年快乐”"),
    Exhibit("market", "Neon sign at night that reads “NIGHT MARKET 夜市”, with a pink glow"),
    Exhibit("tote", "A tote bag. The words 'GREEN LIFE' are printed on it in forest green."),
    Exhibit("mug", 'I need a mug with "Monday again?" on it in a typewriter font, please'),
    Exhibit("wall", "an orange brick wall with «LATE SHOW 9:30» in white stencil letters"),
    Exhibit(
        "flyer",
        'Concert flyer with a purple sunburst: "SUMMER BEATS" in cream letters at the top and a '
        'small "12 July" at the bottom',
    ),
    Exhibit("plain", "a soft gradient in mint green, with nothing written on it"),
    Exhibit("banner", 'wide banner, "GRAND OPENING" in white on teal', 480, 128),
    Exhibit("books", "浅黄色纸张，深绿色宋体字「读书 时光」", 192, 336),
)


def draw(exhibit: Exhibit, binary: str, model: Path, out: Path) -> None:
    """Draws one picture and writes it as `out/NAME.jpg`."""
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder) / "picture.png"
        settings = {
            "model": model, "prompt": exhibit.prompt, "out": png, "seed": SEED, "steps": STEPS,
            "cfg": GUIDANCE, "width": exhibit.width, "height": exhibit.height,
        }  # fmt: skip
        arguments = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        subprocess.run([binary, "generate", *arguments], check=True, capture_output=True)
        Image.open(png).save(out / f"{exhibit.name}.jpg", quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="ovis-worker")
    parser.add_argument("--model", type=Path, default=DEMO / "model")
    parser.add_argument("--out", type=Path, default=DEMO / "gallery")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for exhibit in EXHIBITS:
        draw(exhibit, args.binary, args.model, args.out)
        print(exhibit.name, flush=True)


if __name__ == "__main__":
    main()
