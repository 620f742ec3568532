"""The families of letters: font files, proportions, and the width of every letter's box.

Widths are data, not taken from the fonts, so that posters can be set without any font.
`fonts.py` collects the files; its test compares the widths below with them.
"""

import string
from dataclasses import dataclass
from pathlib import Path

SIGNS = "%&!?.,:;-+/$€@#'’"
LATIN = string.ascii_letters + string.digits + SIGNS
"""Letters of the Latin script, digits and signs that can be drawn."""

CHARACTERS = "".join(
    (Path(__file__).parents[1] / "lists" / "characters.txt").read_text("utf-8").split()
)
"""The Chinese characters that can be drawn. After those of the first model's headlines come the
most frequent ones in the word list of the Debian package python3-jieba (MIT licence), and some
that are common on posters."""

LETTERS = LATIN + CHARACTERS
"""All characters that can be drawn; a space is none of them."""

HAN = frozenset(CHARACTERS)


@dataclass(frozen=True)
class Family:
    """One family. Lengths are in units of the cell, the width of a medium letter's box.

    `size` is the size of the Latin font; `ascent` and `descent` say how far its highest and lowest
    letter reach from the baseline; `line` is the height of a line. Letters in `narrow` have a box
    of 1/2 cell, those in `wide` one of 3/2 cells, and all others one of a whole cell. A space is
    as wide as `space`, in half-cells. `han` names the Chinese font, and `stroke` the width of an
    outline around its characters, in units of their cell; `bold` is that around Latin letters.
    `pairs` are the cells of Latin and of Chinese letters that stand on one line.
    """

    latin: str
    size: float
    ascent: float
    descent: float
    narrow: str = ""
    wide: str = ""
    space: int = 1
    line: float = 1.5
    han: str = "han_sans"
    stroke: float = 0.0
    bold: float = 0.0
    pairs: tuple[tuple[int, int], ...] = ((64, 80), (48, 56), (32, 40), (24, 28))

    def half_cells(self, letter: str) -> int:
        """Width of a letter's box in half-cells of its own script: 1, 2 or 3."""
        if letter == " ":
            return self.space
        return 1 if letter in self.narrow else 3 if letter in self.wide else 2


FAMILY: dict[str, Family] = {
    "grotesk": Family("grotesk", 1.45, 1.19, 0.31, "ijlI!.,:;'’", "mwMW@"),
    "serif": Family("serif", 1.5, 1.09, 0.33, "fijltI!.,:;-/'’", "mwMW%@", han="han_serif"),
    "slab": Family("slab", 1.43, 1.18, 0.32, "ijltI!.,:;-'’", "mwMW@", han="han_serif"),
    "mono": Family("mono", 1.43, 1.24, 0.26, space=2),
    "condensed": Family(
        "condensed", 1.92, 1.58, 0.42, "ijlI!.,:;-'’", "mwMW@",
        line=2.0, pairs=((40, 80), (32, 56), (24, 40), (16, 28)),
    ),
    "rounded": Family(
        "rounded", 1.5, 1.2, 0.3, "ijlI1!.,:;-'’", "mQW%@", han="han_round", stroke=0.024
    ),
    "script": Family(
        "script", 1.6, 1.1, 0.4, "ilt!.,:;-'’", "mwMWHN&", bold=0.02, han="han_kai"
    ),
    "stencil": Family("stencil", 1.42, 1.15, 0.35, "ijlrtI1!.,:;-'’", "mwMW@"),
    "marker": Family("marker", 1.5, 1.17, 0.33, "ijlI1!.,:;'’", han="han_kai", stroke=0.02),
}  # fmt: skip
"""Key of `poster.FAMILIES` -> its letters."""
