#!/usr/bin/env python3
"""Draws a sheet of 20 random posters: `sheet.py ASSETS OUT.png [SEED]`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from posters.painter import Painter
from posters.random_posters import default_table, sample


def draw(assets: Path, out: Path, seed: int) -> None:
    """Writes the sheet, and prints what its posters show."""
    rng = np.random.default_rng(seed)
    painter = Painter(assets)
    table = {**default_table(), "assets": str(assets)}
    sheet = Image.new("RGB", (5 * 264, 4 * 264), "gray")
    for number in range(20):
        poster = sample(rng, table, (256, 256))
        picture, _ = painter.paint(poster)
        sheet.paste(Image.fromarray(picture), (number % 5 * 264 + 4, number // 5 * 264 + 4))
        print(poster)
    sheet.save(out)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
