"""Draws posters."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from designs import COLORS, Poster, luminance
from typesetting import FIRST_COLUMN, LETTERS, METRICS, cell_width, font_of, line_height

FILES = {"bold": "bold.ttf", "serif": "serif.otf", "tall": "tall.otf", "han": "han.otf"}
"""Font files in the assets folder."""


def layout(poster: Poster) -> tuple[int, int, list[tuple[str, int, int]]]:
    """The width and height of a cell, and each character with the left and top edge of its cell."""
    font = font_of(poster.lines, poster.style)
    cell = cell_width(poster.lines, poster.style, poster.width, poster.height)
    assert cell is not None, f"{poster.lines} does not fit"
    pitch = line_height(font, cell)
    free = poster.height - pitch * len(poster.lines)
    top = {"top": min(16, free // 2), "center": free / 2, "bottom": max(free - 16, free // 2)}
    # Aligned to 16 pixels, the size of a transformer token.
    y = min(max(16 * round(top[poster.position] / 16), 0), free)
    places = []
    for line in poster.lines:
        x = 8 * ((poster.width - cell * len(line)) // 16)
        places += [(char, x + cell * index, y) for index, char in enumerate(line)]
        y += pitch
    return cell, pitch, places


class Painter:
    """Draws posters with the fonts in a folder. Glyphs and backgrounds are cached, so that a
    picture takes little more time than copying its pixels."""

    def __init__(self, assets: Path):
        self.assets = assets
        self.glyphs: dict[tuple[str, int, str], np.ndarray] = {}
        self.grounds: dict[tuple[str, str, int, int], np.ndarray] = {}

    def paint(self, poster: Poster) -> tuple[np.ndarray, np.ndarray]:
        """The picture, uint8 [H, W, 3], and the coverage of its letters, uint8 [H, W]."""
        coverage = np.zeros((poster.height, poster.width), np.uint8)
        picture = self._ground(poster).copy()
        ink = np.array(COLORS[poster.ink], np.float32)
        rows = self._letter(poster, coverage)
        if poster.surface == "plain":
            steps = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
            ground = picture[0, 0].astype(np.float32)
            mixed = (ground + (ink - ground) * steps + 0.5).astype(np.uint8)
            picture[rows] = mixed[coverage[rows]]
        else:
            alpha = coverage[rows][..., None] * np.float32(1 / 255)
            ground = picture[rows].astype(np.float32)
            picture[rows] = (ground + (ink - ground) * alpha + 0.5).astype(np.uint8)
        if poster.border:
            ink = ink.astype(np.uint8)
            picture[:4] = picture[-4:] = ink
            picture[:, :4] = picture[:, -4:] = ink
        return picture, coverage

    def cells(self, poster: Poster) -> np.ndarray:
        """The letter at each transformer token: int16 [H/16 * W/16, 2, 2]. For the left and the
        right half of a token it holds the letter's index in `LETTERS` from 1 on, and the label of
        the column of its cell, which starts at `FIRST_COLUMN`; 0 means no letter."""
        cells = np.zeros((poster.height // 8, poster.width // 8, 2), np.int16)
        cell, pitch, places = layout(poster)
        columns = FIRST_COLUMN[cell] + np.arange(cell // 8)
        for char, x, y in places:
            place = cells[y // 8 : (y + pitch) // 8, x // 8 : (x + cell) // 8]
            place[..., 0] = 1 + LETTERS.index(char)
            place[..., 1] = columns
        # A token is two rows high. One that two lines share belongs to the upper line.
        cells = cells.reshape(poster.height // 16, 2, poster.width // 16, 2, 2)
        upper, lower = cells[:, 0], cells[:, 1]
        return np.where(upper > 0, upper, lower).reshape(-1, 2, 2)

    def _letter(self, poster: Poster, canvas: np.ndarray) -> slice:
        """Draws the headline into `canvas` and returns the rows it covers."""
        cell, pitch, places = layout(poster)
        font = font_of(poster.lines, poster.style)
        for char, x, y in places:
            canvas[y : y + pitch, x : x + cell] = self._glyph(font, cell, char)
        return slice(places[0][2], places[-1][2] + pitch)

    def _glyph(self, font: str, cell: int, char: str) -> np.ndarray:
        """The coverage of a glyph in its cell. A glyph that is too wide is narrowed to fit."""
        key = (font, cell, char)
        if key not in self.glyphs:
            size, above, below, _ = METRICS[font]
            pitch = line_height(font, cell)
            face = self._face(font, size * cell)
            baseline = (pitch + (above - below) * cell) / 2
            wide = Image.new("L", (3 * cell, pitch))
            anchor, place = ("ms", (1.5 * cell, round(baseline)))
            ImageDraw.Draw(wide).text(place, char, 255, font=face, anchor=anchor)
            left, _, right, _ = wide.getbbox() or (cell, 0, 2 * cell, 0)
            room = cell - max(2, cell // 12)
            if right - left > room:
                ink = wide.crop((left, 0, right, pitch)).resize((room, pitch), Image.LANCZOS)
                left, right = 0, room
            else:
                ink = wide.crop((left, 0, right, pitch))
            mask = np.zeros((pitch, cell), np.uint8)
            start = (cell - (right - left)) // 2
            mask[:, start : start + right - left] = np.asarray(ink)
            self.glyphs[key] = mask
        return self.glyphs[key]

    def _face(self, font: str, size: float) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(str(self.assets / FILES[font]), size)

    def _ground(self, poster: Poster) -> np.ndarray:
        """The background, uint8 [H, W, 3]. Patterns repeat every 16 or 32 pixels."""
        width, height, surface = poster.width, poster.height, poster.surface
        key = (poster.ground, surface, width, height)
        if key not in self.grounds:
            y, x = np.mgrid[:height, :width]
            if surface == "plain":
                amount = np.zeros((height, width))
            elif surface == "gradient":
                amount = 0.2 * y / height
            elif surface == "striped":
                amount = 0.12 * (x // 16 % 2)
            elif surface == "brick":
                shifted = x + 16 * (y // 16 % 2)
                amount = 0.16 * ((y % 16 < 2) | (shifted % 32 < 2))
            else:
                amount = 0.05 * (y // 32 % 3) + 0.14 * (y % 32 < 2)
            # The second tone is darker on light colours, and lighter on dark ones.
            target, strength = (0, 1.0) if luminance(poster.ground) > 0.18 else (255, 0.6)
            color = np.array(COLORS[poster.ground], np.float32)
            picture = color + (target - color) * (strength * amount[..., None])
            self.grounds[key] = (picture + 0.5).astype(np.uint8)
        return self.grounds[key]
