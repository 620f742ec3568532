#!/usr/bin/env python3
"""Draws the gallery in `worker/demo/README.md`: every prompt once, with seed 0.

gallery.py [--binary ovis-worker] [--model DIR] [--out FOLDER]
"""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from judging.lists import Item
from judging.sources import Sampling, generated
from posters.poster import Poster

DEMO = Path(__file__).resolve().parents[1]
SEED = 0


def _poster(prompt: str, width: int = 256, height: int = 256) -> Poster:
    return Poster(prompt, (), width=width, height=height)


EXHIBITS = {
    "open": _poster('a sign that says "OPEN"'),
    "crumb": _poster('Business card for a bakery called "Crumb", elegant gold letters on black'),
    "quartz": _poster('Poster, headline "QUARTZ" in bold dark blue letters on a white background'),
    "new-year": _poster("红色海报，白色粗体标题“新年快乐”"),
    "market": _poster("Neon sign at night that reads “NIGHT MARKET 夜市”, with a pink glow"),
    "tote": _poster("A tote bag. The words 'GREEN LIFE' are printed on it in forest green."),
    "mug": _poster('I need a mug with "Monday again?" on it in a typewriter font, please'),
    "wall": _poster("an orange brick wall with «LATE SHOW 9:30» in white stencil letters"),
    "flyer": _poster(
        'Concert flyer with a purple sunburst: "SUMMER BEATS" in cream letters at the top and a '
        'small "12 July" at the bottom',
    ),
    "plain": _poster("a soft gradient in mint green, with nothing written on it"),
    "banner": _poster('wide banner, "GRAND OPENING" in white on teal', 480, 128),
    "books": _poster("浅黄色纸张，深绿色宋体字「读书 时光」", 192, 336),
}
"""The posters by the names of their files."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="ovis-worker")
    parser.add_argument("--model", type=Path, default=DEMO / "model")
    parser.add_argument("--out", type=Path, default=DEMO / "gallery")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    items = [Item(SEED, poster, frozenset()) for poster in EXHIBITS.values()]
    with tempfile.TemporaryDirectory() as folder:
        pictures = generated(args.binary, args.model, items, Sampling(), Path(folder))
    for name, picture in zip(EXHIBITS, pictures, strict=True):
        Image.fromarray(picture).save(args.out / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main()
