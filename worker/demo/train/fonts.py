#!/usr/bin/env python3
"""Collects the fonts and the word list that posters are made from, from Debian packages.

    fonts.py OUT

Packages: fonts-jetbrains-mono (Apache 2.0), fonts-roboto-slab (Apache 2.0),
fonts-league-mono (OFL 1.1), fonts-noto-cjk (OFL 1.1), wamerican (public domain).
The fonts are subset to the glyphs that are used.
"""

import shutil
import sys
from pathlib import Path

from fontTools import subset

from headlines import CHARACTERS, LATIN

SHARE = Path("/usr/share/fonts")

# Output name: source file, index in a font collection (-1 for a single font), glyphs.
SOURCES = {
    "bold.ttf": (SHARE / "truetype/jetbrains-mono/JetBrainsMono-ExtraBold.ttf", -1, LATIN),
    "serif.otf": (SHARE / "opentype/roboto/slab/RobotoSlab-Bold.otf", -1, LATIN),
    "tall.otf": (SHARE / "opentype/league-mono/LeagueMono-CondensedExtraBold.otf", -1, LATIN),
    # Index 2 is the collection's font for Simplified Chinese.
    "han.otf": (SHARE / "opentype/noto/NotoSansCJK-Bold.ttc", 2, CHARACTERS),
}


def gather(out: Path) -> None:
    """Writes the word list and the fonts to `out`. Layout features such as ligatures are removed,
    because every letter has a cell of its own."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile("/usr/share/dict/american-english", out / "words.txt")
    for name, (source, index, glyphs) in SOURCES.items():
        options = subset.Options(layout_features=[], font_number=index, notdef_outline=True)
        font = subset.load_font(source, options)
        cutter = subset.Subsetter(options)
        cutter.populate(text="".join(glyphs))
        cutter.subset(font)
        subset.save_font(font, out / name, options)
        print(f"{out / name}: {(out / name).stat().st_size} bytes")


if __name__ == "__main__":
    gather(Path(sys.argv[1]))
