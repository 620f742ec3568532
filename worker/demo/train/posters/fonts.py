#!/usr/bin/env python3
"""Collects the fonts and the words that posters are made from, from Debian packages.

    fonts.py OUT

The fonts are subset to the glyphs that are used, and lose their layout features such as
ligatures, because every letter has a box of its own. `SOURCES` and `WORDS` name each file's
package and licence; all are in Debian 12 (bookworm).
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # started as a program, not imported from the rooms
    sys.path.insert(0, str(Path(__file__).parents[1]))

from posters.families import CHARACTERS, HAN, LATIN

SHARE = Path("/usr/share")


@dataclass(frozen=True)
class Source:
    """A font file of a Debian package, below `SHARE`. `index` is its number in a collection; -1
    without one. `wanted` are the letters that are taken from it."""

    package: str
    licence: str
    file: str
    wanted: str = LATIN
    index: int = -1


SOURCES: dict[str, Source] = {
    "grotesk": Source("fonts-inter", "OFL 1.1", "fonts/opentype/inter/Inter-ExtraBold.otf"),
    "serif": Source(
        "fonts-liberation", "OFL 1.1", "fonts/truetype/liberation/LiberationSerif-Bold.ttf"
    ),
    "slab": Source(
        "fonts-roboto-slab", "Apache 2.0", "fonts/opentype/roboto/slab/RobotoSlab-Bold.otf"
    ),
    "mono": Source(
        "fonts-jetbrains-mono",
        "Apache 2.0",
        "fonts/truetype/jetbrains-mono/JetBrainsMono-ExtraBold.ttf",
    ),
    "condensed": Source(
        "fonts-roboto-unhinted",
        "Apache 2.0",
        "fonts/truetype/roboto/unhinted/RobotoCondensed-Bold.ttf",
    ),
    "rounded": Source("fonts-quicksand", "OFL 1.1", "fonts/truetype/quicksand/Quicksand-Bold.ttf"),
    "script": Source(
        "fonts-texgyre",
        "GUST Font License 1.0",
        "texmf/fonts/opentype/public/tex-gyre/texgyrechorus-mediumitalic.otf",
    ),
    "stencil": Source("fonts-allerta", "OFL 1.1", "fonts/opentype/allerta/allerta_stencil.otf"),
    "marker": Source(
        "fonts-yusei-magic", "OFL 1.1", "fonts/truetype/yusei-magic/YuseiMagic-Regular.ttf"
    ),
    # Numbers in the collections are those of the fonts for Simplified Chinese.
    "han_sans": Source(
        "fonts-noto-cjk", "OFL 1.1", "fonts/opentype/noto/NotoSansCJK-Bold.ttc", CHARACTERS, 2
    ),
    "han_round": Source(  # drawn with a round outline, as no free round font is in Debian
        "fonts-noto-cjk", "OFL 1.1", "fonts/opentype/noto/NotoSansCJK-Regular.ttc", CHARACTERS, 2
    ),
    "han_serif": Source(
        "fonts-noto-cjk", "OFL 1.1", "fonts/opentype/noto/NotoSerifCJK-Bold.ttc", CHARACTERS, 2
    ),
    "han_kai": Source(
        "fonts-lxgw-wenkai", "OFL 1.1", "fonts/truetype/lxgw-wenkai/LXGWWenKai-Bold.ttf", CHARACTERS
    ),
}
"""Font name -> its source. The font is written to NAME.font in the assets folder."""

BORROWED = {"stencil": ("#", "grotesk"), "marker": (".,:;'’", "rounded")}
"""Font name -> letters that it lacks or has in an unfit form, and the font they come from."""

WORDS = {
    "english.txt": ("wamerican", "public domain", "/usr/share/dict/american-english"),
    "chinese.txt": ("python3-jieba", "MIT", "/usr/lib/python3/dist-packages/jieba/dict.txt"),
}
"""Name in the assets folder -> package, licence and file of words."""

CHINESE_WORDS = 12000
"""The most frequent words of two or more characters are taken."""


def gather(out: Path, others: tuple[Callable[[Path], None], ...] = ()) -> None:
    """Writes fonts and words to the folder `out`. Each function in `others` is then called with
    the folder, to add its own files."""
    from fontTools import subset

    out.mkdir(parents=True, exist_ok=True)
    for name, source in SOURCES.items():
        path = SHARE / source.file
        _demand(path, source.package)
        options = subset.Options(layout_features=[], font_number=source.index)
        options.notdef_outline = True
        font = subset.load_font(str(path), options)
        cutter = subset.Subsetter(options)
        cutter.populate(text=source.wanted)
        cutter.subset(font)
        lacking = "".join(c for c in source.wanted if ord(c) not in font.getBestCmap())
        if not set(lacking) <= set(BORROWED.get(name, ("",))[0]):
            raise SystemExit(f"{path} lacks the letters {lacking!r}")
        subset.save_font(font, str(out / f"{name}.font"), options)
    _words(out)
    for other in others:
        other(out)
    total = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {total / 1e6:.1f} MB")


def _words(out: Path) -> None:
    """Writes the word lists: English words of lower-case letters, and the most frequent Chinese
    words whose characters can all be drawn."""
    for package, _, file in WORDS.values():
        _demand(Path(file), package)
    english = Path(WORDS["english.txt"][2]).read_text("utf-8").split()
    english = sorted({w for w in english if w.isascii() and w.isalpha() and w.islower()})
    (out / "english.txt").write_text("\n".join(english) + "\n", "utf-8")
    rows = [row.split() for row in Path(WORDS["chinese.txt"][2]).read_text("utf-8").splitlines()]
    counted = [(row[0], int(row[1])) for row in rows if 2 <= len(row[0]) <= 7]
    counted = [(word, count) for word, count in counted if set(word) <= HAN]
    counted.sort(key=lambda item: (-item[1], item[0]))
    chinese = [word for word, _ in counted[:CHINESE_WORDS]]
    (out / "chinese.txt").write_text("\n".join(chinese) + "\n", "utf-8")


def _demand(path: Path, package: str) -> None:
    if not path.exists():
        raise SystemExit(f"{path} is missing: install the Debian package {package}")


if __name__ == "__main__":
    gather(Path(sys.argv[1]))
