"""What letters stand on, drawn from at most four flat tones.

A surface is kept as an index per pixel into a short table of mixtures of tones. It is drawn once
for each size; with other colours, only the table is computed anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from . import areas

GROUND, SECOND, SHADE, SECOND_SHADE = range(4)
"""The tones: the poster's ground, its accent (or a tone of the ground), and a shade of each."""

UNDER_LETTERS = ("gradient", "stripes", "sunburst", "banner")
"""Surfaces on which letters also stand on the second tone in large parts."""

STRENGTH = {
    "gradient": 0.3, "stripes": 0.12, "sunburst": 0.14, "banner": 0.12, "brick": 0.2, "wood": 0.2,
    "tote": 0.3, "mug": 0.3, "card": 0.3, "splash": 0.4, "night": 0.3,
}  # fmt: skip
"""How far the second tone is from the ground if the poster has no accent, in 0..1."""

SCALE = 4
"""Edges are smoothed by drawing this many times larger."""


@dataclass(frozen=True)
class Surface:
    """`index`: uint16 [H, W], a row of `mix` per pixel; `mix`: float32 [N, 4], shares of the
    tones."""

    index: np.ndarray
    mix: np.ndarray

    def paint(self, tones: np.ndarray) -> np.ndarray:
        """The picture in these tones (float32 [4, 3] in 0..255), uint8 [H, W, 3]."""
        return (self.mix @ tones + 0.5).astype(np.uint8)[self.index]


def tones(surface: str, ground: tuple, accent: tuple | None) -> np.ndarray:
    """The four tones of a surface, float32 [4, 3] in 0..255. `ground` and `accent` are RGB."""
    base = np.array(ground, np.float32)
    second = shaded(base, STRENGTH.get(surface, 0.1))
    if accent is not None:
        second = np.array(accent, np.float32)
    return np.stack([base, second, shaded(base, 0.07), shaded(second, 0.16)])


def shaded(color: np.ndarray, strength: float) -> np.ndarray:
    """A tone of an RGB colour: darker if the colour is light, else lighter."""
    light = color @ np.float32((0.299, 0.587, 0.114)) > 110
    return color + ((0.0 if light else 255.0) - color) * np.float32(strength)


@lru_cache(maxsize=256)
def surface(name: str, width: int, height: int) -> Surface:
    """The surface in one size."""
    y, x = np.mgrid[:height, :width]
    if name in PATTERNS:
        return _flat(PATTERNS[name](x, y))
    if name in ("gradient", "splash"):
        # Steps of 2 pixels, as fine as 8-bit colours can show.
        rows = max(height // 2, 1)
        share = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
        other = SECOND if name == "gradient" else SHADE
        eye = np.eye(4, dtype=np.float32)
        ramp = Surface(
            np.minimum(y // 2, rows - 1).astype(np.uint16),
            eye[GROUND] * (1 - share) + eye[other] * share,
        )
        return _over(ramp, _splash(width, height)) if name == "splash" else ramp
    canvas = Image.new("L", (SCALE * width, SCALE * height), GROUND)
    OBJECTS[name](_Pen(canvas), width, height)
    return _smooth(canvas)


class _Pen:
    """Draws filled shapes of one tone on a canvas that is `SCALE` times larger."""

    def __init__(self, canvas: Image.Image):
        self.draw = ImageDraw.Draw(canvas)

    def box(self, box: tuple, tone: int, radius: float = 0) -> None:
        """A rectangle with rounded corners."""
        left, top, right, bottom = (SCALE * edge for edge in box)
        self.draw.rounded_rectangle((left, top, right - 1, bottom - 1), SCALE * radius, tone)

    def shape(self, points: list[tuple[float, float]], tone: int) -> None:
        """A polygon."""
        self.draw.polygon([(SCALE * x, SCALE * y) for x, y in points], tone)


def _paper(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    flecks = np.full((32, 32), GROUND)
    for left, top, width, height in ((3, 4, 3, 1), (18, 9, 1, 3), (9, 19, 1, 2), (25, 26, 3, 1)):
        flecks[top : top + height, left : left + width] = SECOND
    for left, top in ((12, 2), (28, 14), (2, 13), (15, 28), (20, 20), (7, 25)):
        flecks[top : top + 2, left : left + 2] = SHADE
    return flecks[y % 32, x % 32]


def _wood(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    plank = np.where(y // 32 % 2 == 1, SHADE, GROUND)
    grain = ((y % 32 == 10) & (x % 64 < 40)) | ((y % 32 == 22) & ((x + 32) % 64 < 40))
    return np.where(y % 32 < 2, SECOND, np.where(grain, SHADE + GROUND - plank, plank))


def _brick(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    shifted = x + 16 * (y // 16 % 2)
    return np.where((y % 16 < 2) | (shifted % 32 < 2), SECOND, GROUND)


PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": lambda x, y: np.zeros_like(x),
    "paper": _paper,
    "wood": _wood,
    "brick": _brick,
    "stripes": lambda x, y: np.where(x // 16 % 2 == 1, SECOND, GROUND),
}
"""Surfaces that repeat: the tone at columns x and rows y. Their periods are 16, 32 or 64 pixels."""


def _sunburst(pen: _Pen, width: int, height: int) -> None:
    reach = width + height
    for ray in range(0, 24, 2):
        angles = np.pi * (np.array((ray, ray + 1)) - 0.5) / 12
        points = [(width / 2 + reach * np.cos(a), height / 2 + reach * np.sin(a)) for a in angles]
        pen.shape([(width / 2, height / 2), *points], SECOND)


def _night(pen: _Pen, width: int, height: int) -> None:
    top = areas.street(height)
    pen.box((0, top, width, height), SHADE)
    pen.box((0, top, width, top + 2), SECOND)


def _splash(width: int, height: int) -> Image.Image:
    """The icon and the bar at the lower edge of a start screen, on tone 255, which is clear."""
    canvas = Image.new("L", (SCALE * width, SCALE * height), 255)
    pen = _Pen(canvas)
    left, top, right, bottom = areas.icon(width, height)
    side = right - left
    pen.box((left, top, right, bottom), SECOND, side / 4)
    inset = side / 4
    pen.shape(
        [
            (left + inset, bottom - inset), (right - inset, bottom - inset),
            (right - inset, top + inset),
        ],
        SECOND_SHADE,
    )  # fmt: skip
    bar = width // 6
    pen.box((width / 2 - bar, height - 12, width / 2 + bar, height - 8), SECOND, 2)
    return canvas


def _tote(pen: _Pen, width: int, height: int) -> None:
    left, top, right, bottom = areas.body("tote", width, height)
    pen.box((0, 0, width, height), SECOND)
    thick = max(top / 6, 6)
    outer = (width * 5 / 16, top / 5, width * 11 / 16, 2 * top)
    pen.box(outer, SHADE, min(outer[2] - outer[0], top) / 2.2)
    inner = (outer[0] + thick, outer[1] + thick, outer[2] - thick, 2 * top)
    pen.box(inner, SECOND, min(inner[2] - inner[0], top) / 2.6)
    pen.shape([(left + 4, top), (right - 4, top), (right, bottom), (left, bottom)], GROUND)
    pen.box((left + 4, top + 3, right - 4, top + 5), SHADE)


def _mug(pen: _Pen, width: int, height: int) -> None:
    left, top, right, bottom = areas.body("mug", width, height)
    pen.box((0, 0, width, height), SECOND)
    pen.box((0, bottom - 8, width, height), SECOND_SHADE)
    middle, reach = (top + bottom) / 2, (bottom - top) * 0.3
    thick = max((width - right) / 4, 6)
    outer = (right - 16, middle - reach, width - 12, middle + reach)
    pen.box(outer, SHADE, min(reach, width - 12 - right))
    inner = (outer[0], outer[1] + thick, outer[2] - thick, outer[3] - thick)
    pen.box(inner, SECOND, max(min(reach, width - 12 - right) - thick, 2))
    pen.box((left, top, right, bottom), GROUND, 12)
    pen.box((left, top, right, top + 12), GROUND, 4)
    pen.box((left + 4, top + 3, right - 4, top + 6), SHADE, 1)


def _card(pen: _Pen, width: int, height: int) -> None:
    left, top, right, bottom = areas.body("card", width, height)
    pen.box((0, 0, width, height), SECOND)
    pen.box((left + 5, top + 6, right + 5, bottom + 6), SECOND_SHADE, 6)
    pen.box((left, top, right, bottom), GROUND, 6)


def _banner(pen: _Pen, width: int, height: int) -> None:
    left, top, right, bottom = areas.body("banner", width, height)
    drop = 12
    for outer, inner in ((0, left + 16), (width, right - 16)):
        notch = outer + (inner - outer) * 0.45
        pen.shape(
            [
                (outer, top + drop), (inner, top + drop), (inner, bottom + drop),
                (outer, bottom + drop), (notch, (top + bottom) / 2 + drop),
            ],
            SECOND_SHADE,
        )  # fmt: skip
    pen.box((left, top, right, bottom), SECOND)


OBJECTS: dict[str, Callable[[_Pen, int, int], None]] = {
    "sunburst": _sunburst,
    "night": _night,
    "tote": _tote,
    "mug": _mug,
    "card": _card,
    "banner": _banner,
}
"""Surfaces that are drawn from shapes on a canvas of the ground's tone."""


def _flat(tone: np.ndarray) -> Surface:
    return Surface(tone.astype(np.uint16), np.eye(4, dtype=np.float32))


def _shares(canvas: Image.Image, values: range) -> np.ndarray:
    """Share of each value at each pixel of a canvas: float32 [H, W, values]."""
    large = np.asarray(canvas)
    height, width = large.shape[0] // SCALE, large.shape[1] // SCALE
    blocks = large.reshape(height, SCALE, width, SCALE)
    return np.stack([(blocks == v).mean((1, 3), dtype=np.float32) for v in values], -1)


def _smooth(canvas: Image.Image) -> Surface:
    """A surface from a large canvas of tones."""
    shares = _shares(canvas, range(4))
    mix, index = np.unique(shares.reshape(-1, 4), axis=0, return_inverse=True)
    return Surface(index.reshape(shares.shape[:2]).astype(np.uint16), mix)


def _over(below: Surface, canvas: Image.Image) -> Surface:
    """A surface with the shapes of a canvas on top, where they are not clear (255)."""
    shares = _shares(canvas, range(4))
    clear = 1 - shares.sum(-1, keepdims=True)
    whole = below.mix[below.index] * clear + shares
    mix, index = np.unique(whole.reshape(-1, 4).round(4), axis=0, return_inverse=True)
    return Surface(index.reshape(whole.shape[:2]).astype(np.uint16), mix.astype(np.float32))
