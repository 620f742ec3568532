"""Draws posters, and says which letter stands where."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from . import areas, surfaces
from .colors import COLORS
from .families import FAMILY, HAN, LETTERS, Family
from .fonts import BORROWED
from .poster import Poster
from .typesetting import COLUMN, Layout, Letter, set_lines

BORDER = 4
"""Width of a border in pixels."""
FINE = 4
"""Glyphs are drawn this many times larger, then narrowed or widened to their box."""
WIDEST = 1.2
"""Letters are widened to at most this share of their own width to fill their box."""
INDEX = {letter: number for number, letter in enumerate(LETTERS, 1)}
"""Letter -> its index in `LETTERS` + 1."""


class Painter:
    """Draws posters with the fonts in the folder `assets`, which `fonts.py` writes. Glyphs are
    cached, so that a picture takes little more time than copying its pixels."""

    def __init__(self, assets: Path):
        self.assets = Path(assets)
        self.glyphs: dict[tuple, np.ndarray] = {}

    def paint(self, poster: Poster) -> tuple[np.ndarray, np.ndarray]:
        """The picture, uint8 [H, W, 3], and the coverage of its letters, uint8 [H, W]."""
        layout = _layout(poster)
        ground, ink = COLORS[poster.ground], COLORS[poster.ink]
        accent = COLORS[poster.accent] if poster.accent else None
        surface = surfaces.surface(poster.surface, poster.width, poster.height)
        picture = surface.paint(surfaces.tones(poster.surface, ground, accent))
        coverage = np.zeros((poster.height, poster.width), np.uint8)
        for letter in layout.letters:
            rows = slice(letter.top, letter.top + letter.height)
            columns = slice(letter.left, letter.left + letter.width)
            coverage[rows, columns] = self._glyph(poster.family, letter)
        if layout.letters:
            if poster.surface == "night":
                _glow(picture, coverage, ink)
            if poster.shadow:
                _shade(picture, coverage, max(letter.cell for letter in layout.letters))
            top = min(letter.top for letter in layout.letters)
            bottom = max(letter.top + letter.height for letter in layout.letters)
            _mix(picture[top:bottom], coverage[top:bottom], ink)
        if poster.border:
            color = accent or ink
            picture[:BORDER] = picture[-BORDER:] = color
            picture[:, :BORDER] = picture[:, -BORDER:] = color
        return picture, coverage

    def cells(self, poster: Poster) -> np.ndarray:
        """The letter at each transformer token: int16 [H/16 * W/16, 2, 3]. For the left and the
        right 8 pixels of a token: the letter's index in `LETTERS` from 1 on, the label of the
        first column inside its box (`typesetting.COLUMN` pixels wide, from 1 on), and the ordinal
        number of the letter in the poster from 1 on. All are 0 where no letter is. Of two letters
        the one with more columns counts, else the left one; of two lines the upper one."""
        cells = np.zeros((poster.height // 8, poster.width // COLUMN, 3), np.int16)
        for letter in _layout(poster).letters:
            left, right = letter.left // COLUMN, (letter.left + letter.width) // COLUMN
            place = cells[letter.top // 8 : (letter.top + letter.height) // 8, left:right]
            place[..., 0] = INDEX[letter.char]
            place[..., 1] = np.arange(1, right - left + 1)
            place[..., 2] = letter.number
        # 8 pixels are two columns. The left one counts unless it is empty.
        cells = cells.reshape(poster.height // 8, poster.width // 8, 2, 3)
        cells = np.where(cells[:, :, :1, 0] > 0, cells[:, :, 0], cells[:, :, 1])
        # A token is two such rows high. The upper one counts unless it is empty.
        cells = cells.reshape(poster.height // 16, 2, poster.width // 16, 2, 3)
        upper, lower = cells[:, 0], cells[:, 1]
        return np.where(upper[..., :1] > 0, upper, lower).reshape(-1, 2, 3)

    def _glyph(self, family: str, letter: Letter) -> np.ndarray:
        """The coverage of a letter's box, uint8 [height, width]."""
        # Families that have the same Chinese font share its glyphs.
        font = FAMILY[family].han if letter.char in HAN else family
        key = (font, FAMILY[family].stroke, letter.char, letter.cell, letter.width, letter.height)
        if key not in self.glyphs:
            self.glyphs[key] = self._draw(FAMILY[family], letter)
        return self.glyphs[key]

    def _draw(self, family: Family, letter: Letter) -> np.ndarray:
        if letter.char in HAN:
            name, size, stroke = family.han, 0.94 * letter.cell, family.stroke * letter.cell
            # The middle of the em square is 0.38 em above the baseline.
            baseline = letter.height / 2 + 0.38 * size
            room = letter.width - 2
        else:
            borrowed, other = BORROWED.get(family.latin, ("", ""))
            name = other if letter.char in borrowed else family.latin
            size, stroke = family.size * letter.cell, family.bold * letter.cell
            baseline = (letter.height + (family.ascent - family.descent) * letter.cell) / 2
            room = letter.width - max(2, 0.09 * letter.cell)
        face = ImageFont.truetype(
            str(self.assets / f"{name}.font"), FINE * size, layout_engine=ImageFont.Layout.BASIC
        )
        wide = Image.new("L", (FINE * 4 * letter.cell, FINE * letter.height))
        place = (wide.width / 2, round(FINE * baseline))
        ImageDraw.Draw(wide).text(
            place, letter.char, 255, font=face, anchor="ms", stroke_width=round(FINE * stroke)
        )
        box = wide.getbbox()
        assert box is not None, f"the font {name} has no {letter.char!r}"
        ink = (box[2] - box[0]) / FINE
        stretch = 1.0
        if letter.char.isalnum() and letter.char not in HAN:
            stretch = min(max(0.96 * room / ink, 1.0), WIDEST)
        width = max(round(min(ink * stretch, room)), 1)
        strip = wide.crop((box[0], 0, box[2], wide.height))
        strip = strip.resize((width, letter.height), Image.LANCZOS)
        mask = np.zeros((letter.height, letter.width), np.uint8)
        start = (letter.width - width) // 2
        mask[:, start : start + width] = np.asarray(strip)
        return mask


def _layout(poster: Poster) -> Layout:
    layout = set_lines(poster)
    assert layout is not None, f"the phrases of {poster} do not fit"
    return layout


def _mix(picture: np.ndarray, alpha: np.ndarray, color: tuple) -> None:
    """Lays a colour over a picture (uint8 [H, W, 3]) with an opacity of alpha/255, in place."""
    share = alpha.astype(np.uint16)[..., None]
    whole = picture * (255 - share) + share * np.array(color, np.uint16)
    picture[:] = (whole + 127) // 255


def _glow(picture: np.ndarray, coverage: np.ndarray, ink: tuple) -> None:
    """Neon: a halo of the ink around the letters, and its reflection on the street, in which
    nothing can be read because it only keeps how much ink each column has."""
    halo = Image.fromarray(coverage).filter(ImageFilter.BoxBlur(5)).filter(ImageFilter.BoxBlur(5))
    _mix(picture, (np.asarray(halo) * np.float32(0.6)).astype(np.uint8), ink)
    top = areas.street(len(picture)) + 2
    columns = coverage.mean(0, dtype=np.float32)
    columns = np.convolve(np.pad(columns, 24, mode="edge"), np.full(49, 1 / 49), "valid")
    fade = np.linspace(1, 0, len(picture) - top)[:, None]
    strength = np.minimum(columns / max(columns.max(), 1), 1)
    _mix(picture[top:], (110 * fade * strength).astype(np.uint8), ink)


def _shade(picture: np.ndarray, coverage: np.ndarray, cell: int) -> None:
    """A soft shadow below and right of the letters."""
    shift = max(cell // 20, 2)
    shadow = np.zeros_like(coverage)
    shadow[shift:, shift:] = coverage[:-shift, :-shift]
    _mix(picture, (shadow * np.float32(0.22)).astype(np.uint8), (0, 0, 0))
