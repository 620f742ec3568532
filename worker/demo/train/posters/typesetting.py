"""Sets the phrases of a poster: which lines, which size, and the box of every letter.

Boxes stand on a grid: their widths are multiples of half a cell, and a half-cell is a multiple of
4 pixels. Lines start at multiples of 8 pixels from the left edge and, where they fit, at
multiples of 16 from the top. A letter of one size therefore takes few positions relative to the
grid of latents, and a small model can learn lettering in minutes.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

from .areas import letters as letter_area
from .families import FAMILY, HAN, LETTERS, Family
from .poster import Phrase, Poster

CELLS = (64, 48, 40, 32, 24, 16)
"""Widths in pixels of the cell of Latin letters. The largest that fits is used."""
HAN_CELLS = (80, 56, 40, 28)
"""Widths in pixels of the cell of Chinese characters, which is also the width of their box."""
LARGE_ENOUGH = ((32, 40), (24, 28), (16, 28))
"""Least cells (Latin, Chinese): more lines are tried before the next smaller ones are allowed."""
SMALL = (24, 28)
"""The largest cells of a phrase of size "small"."""
LINE = 14
"""Most letters on a line, spaces included."""
LINES = 3
"""Most lines of a phrase."""
COLUMN = 4
"""Pixels of one labelled column of a letter's box."""
COLUMNS = 3 * CELLS[0] // 2 // COLUMN + 1
"""Number of column labels; 0 stands for no letter."""
LONGEST = 63
"""Most letters of a poster, spaces not counted."""

assert 3 * CELLS[0] // 2 >= HAN_CELLS[0]


@dataclass(frozen=True)
class Letter:
    """A letter and its box in pixels. `cell` is that of the letter's own script, and `number`
    counts the letters of the poster from 1 on, spaces not counted."""

    char: str
    left: int
    top: int
    width: int
    height: int
    cell: int
    number: int


@dataclass(frozen=True)
class Block:
    """A phrase broken into lines, before it has a place."""

    lines: tuple[str, ...]
    latin: int
    han: int
    pitch: int

    @property
    def height(self) -> int:
        """Height in pixels of all lines."""
        return self.pitch * len(self.lines)


@dataclass(frozen=True)
class Layout:
    """All letters of a poster from its first phrase on, line by line, and the blocks they form."""

    letters: tuple[Letter, ...]
    blocks: tuple[Block, ...]


@lru_cache(maxsize=512)
def set_lines(poster: Poster) -> Layout | None:
    """The layout of a poster's letters; None if they do not fit or cannot be drawn.

    A phrase alone may use the whole height of the area for letters, one of two phrases half of it.
    """
    family = FAMILY[poster.family]
    area = letter_area(poster.surface, poster.width, poster.height)
    width, height = area[2] - area[0], area[3] - area[1]
    budget = height if len(poster.phrases) < 2 else height // 2
    blocks = []
    for phrase in poster.phrases:
        block = set_phrase(phrase, family, width, budget)
        if block is None:
            return None
        blocks.append(block)
    placed = []
    for block, top in zip(blocks, _tops(poster.phrases, blocks, area), strict=True):
        placed += _letters(block, family, top, area, len(placed))
    return Layout(tuple(placed), tuple(blocks)) if len(placed) <= LONGEST else None


def set_phrase(phrase: Phrase, family: Family, width: int, height: int) -> Block | None:
    """Breaks a phrase into the fewest lines with large letters, else with smaller ones."""
    words = phrase.text.split()
    if not words or not all(char in LETTERS for word in words for char in word):
        return None
    for least in LARGE_ENOUGH:
        for count in range(1, min(LINES, len(words)) + 1):
            lines = _balanced(words, count, family)
            if max(map(len, lines)) > LINE:
                continue
            for latin, han in _cells(phrase, family):
                if (han and han < least[1]) or (not han and latin < least[0]):
                    continue
                if max(_width(line, family, latin, han) for line in lines) > width:
                    continue
                for grid in (16, 8):
                    block = Block(lines, latin, han, _pitch(family, latin, han, grid))
                    if block.height <= height:
                        return block
    return None


def _cells(phrase: Phrase, family: Family) -> list[tuple[int, int]]:
    """The cells (Latin, Chinese) that may be used, the largest first. Chinese is 0 without
    Chinese characters, and Latin is 0 without others."""
    chars = set(phrase.text) - {" "}
    if not chars & HAN:
        pairs = [(cell, 0) for cell in CELLS]
    elif chars <= HAN:
        pairs = [(0, cell) for cell in HAN_CELLS]
    else:
        pairs = list(family.pairs)
    if phrase.size == "small":
        pairs = [pair for pair in pairs if pair[0] <= SMALL[0] and pair[1] <= SMALL[1]]
    return pairs


def _balanced(words: list[str], count: int, family: Family) -> tuple[str, ...]:
    """The words on `count` lines, broken so that the longest line is the shortest possible, then
    the second longest. Of equal ones the first is taken, whose upper lines are shorter."""

    def lines(breaks: tuple[int, ...]) -> tuple[str, ...]:
        edges = (0, *breaks, len(words))
        return tuple(" ".join(words[a:b]) for a, b in pairwise(edges))

    choices = map(lines, combinations(range(1, len(words)), count - 1))

    def widths(texts: tuple[str, ...]) -> list[int]:
        return sorted((_width(text, family, 32, 40) for text in texts), reverse=True)

    return min(choices, key=widths)


def box_width(char: str, family: Family, latin: int, han: int) -> int:
    """Width of the box of a letter or of a space in pixels. Among Chinese characters alone, a space
    counts in half-cells of 2/5 of their cell, as a multiple of 4 pixels."""
    if char in HAN:
        return han
    return family.half_cells(char) * ((latin or han * 4 // 5 // 8 * 8) // 2)


def _width(line: str, family: Family, latin: int, han: int) -> int:
    return sum(box_width(char, family, latin, han) for char in line)


def _pitch(family: Family, latin: int, han: int, grid: int) -> int:
    """Height of a line in pixels, a multiple of `grid`."""
    return grid * -(-int(max(family.line * latin, 1.2 * han)) // grid)


def _tops(phrases: tuple[Phrase, ...], blocks: list[Block], area: tuple) -> list[int]:
    """The top edge of each block."""
    if not blocks:
        return []
    first, last = area[1], area[3]
    heights = [block.height for block in blocks]
    if len(blocks) == 2 and phrases[0].position == phrases[1].position:
        gap = 16 if sum(heights) + 16 <= last - first else 0
        top = _place(phrases[0].position, sum(heights) + gap, first, last)
        return [top, top + heights[0] + gap]
    tops = [
        _place(phrase.position, block.height, first, last)
        for phrase, block in zip(phrases, blocks, strict=True)
    ]
    if len(blocks) == 2:
        rank = {"top": 0, "center": 1, "bottom": 2}
        upper, lower = sorted((0, 1), key=lambda number: rank[phrases[number].position])
        # A phrase in the centre makes room for the one above or below it.
        if phrases[upper].position == "center":
            tops[upper] = min(tops[upper], tops[lower] - heights[upper])
        elif phrases[lower].position == "center":
            tops[lower] = max(tops[lower], tops[upper] + heights[upper])
        overlap = tops[upper] + heights[upper] > tops[lower]
        if overlap or tops[upper] < first or tops[lower] + heights[lower] > last:
            tops[upper], tops[lower] = first, last - heights[lower]
    return tops


def _place(position: str, height: int, first: int, last: int) -> int:
    """The top edge of a block in the area from `first` to `last`. It is a multiple of 16 unless
    only a multiple of 8 fits."""
    ideal = {"top": first, "center": (first + last - height) / 2, "bottom": last - height}
    for grid in (16, 8):
        tops = range(-(-first // grid) * grid, last - height + 1, grid)
        if tops:
            return min(tops, key=lambda top: abs(top - ideal[position]))
    raise AssertionError("the block is higher than its area")


def _letters(block: Block, family: Family, top: int, area: tuple, before: int) -> list[Letter]:
    """The letters of a block. Lines are centred to a multiple of 8 pixels."""
    result = []
    for line in block.lines:
        free = area[2] - area[0] - _width(line, family, block.latin, block.han)
        left = -(-area[0] // 8) * 8 + free // 16 * 8
        for char in line:
            width = box_width(char, family, block.latin, block.han)
            if char != " ":
                cell = block.han if char in HAN else block.latin
                number = before + len(result) + 1
                result.append(Letter(char, left, top, width, block.pitch, cell, number))
            left += width
        top += block.pitch
    return result
