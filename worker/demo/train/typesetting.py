"""The grid that headlines are set on: the size of a letter's cell, and the height of a line.

Every letter has a cell of its own, aligned to a grid of 8 pixels, the size of one latent
position. A letter of one size therefore always has the same position relative to the grid. With
one size for each headline length, and flat colours, a small model can learn lettering in minutes.
"""

import headlines

# Cell widths in pixels, all multiples of 8. The largest that fits is used.
LATIN_CELLS = (64, 48, 40, 32, 24)
CHINESE_CELLS = (80, 56)

FIRST_COLUMN = {}
"""Label of the first 8-pixel column of a cell of each width; 0 means no letter."""
COLUMNS = 1
"""Number of column labels."""
for _cell in sorted({*LATIN_CELLS, *CHINESE_CELLS}):
    FIRST_COLUMN[_cell] = COLUMNS
    COLUMNS += _cell // 8

# For each font, in units of the cell width: font size, ascent, descent, line height.
METRICS = {
    "bold": (1.64, 1.22, 0.38, 1.70),
    "serif": (1.46, 1.10, 0.36, 1.60),
    "tall": (1.90, 1.40, 0.42, 1.95),
    "han": (0.96, 0.84, 0.12, 1.20),
}
LETTERS = headlines.LATIN + headlines.CHARACTERS
"""All characters that a headline may contain."""


def cell_width(lines: tuple[str, ...], style: str, width: int, height: int) -> int | None:
    """The width of the largest cell with which the lines fit; None if none does."""
    font = font_of(lines, style)
    longest = max(map(len, lines))
    for cell in CHINESE_CELLS if font == "han" else LATIN_CELLS:
        if len(lines) > 1 and font != "han" and cell > 48:
            continue
        total = len(lines) * line_height(font, cell)
        if longest * cell <= width - 16 and total <= height - 16:
            return cell
    return None


def font_of(lines: tuple[str, ...], style: str) -> str:
    """The font of the style, or the only font with Chinese characters."""
    return style if all(ord(c) < 128 for c in "".join(lines)) else "han"


def line_height(font: str, cell: int) -> int:
    """The height of a line in pixels, a multiple of 8."""
    return 8 * round(METRICS[font][3] * cell / 8)
