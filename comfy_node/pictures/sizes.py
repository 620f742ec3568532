"""Sizes that Ovis-Image accepts, and aspect ratios of common formats.

``web/js/sizes.js`` has the same numbers for the browser; a test compares them.
"""

from __future__ import annotations

import math

LATENT_CHANNELS = 16
LATENT_PIXELS = 8
"""Pixels in each direction for one position of a latent."""
SIZE_MULTIPLE = 16
MOST_EXTREME_RATIO = 4
MAX_SIDE = 4096
"""The largest width or height: 4 megapixels at the most extreme ratio."""
MEGAPIXEL = 1024 * 1024

FREE = "free"
"""The preset that uses the aspect ratio of the slider."""

PRESETS: dict[str, float] = {
    "poster 2:3": 2 / 3,
    "poster 3:4": 3 / 4,
    "A4, A3 … portrait": 1 / math.sqrt(2),
    "A4, A3 … landscape": math.sqrt(2),
    "banner 3:1": 3.0,
    "wide banner 4:1": 4.0,
    "roll-up banner 1:2.35": 1 / 2.35,
    "phone splash 9:19.5": 9 / 19.5,
    "tablet splash 3:4": 3 / 4,
    "desktop 16:9": 16 / 9,
    "business card 85 × 55 mm": 85 / 55,
    "business card 3.5 × 2 in": 3.5 / 2,
    "social square 1:1": 1.0,
    "social portrait 4:5": 4 / 5,
    "social story 9:16": 9 / 16,
    "social landscape 1.91:1": 1.91,
    "social cover 2.63:1": 2.63,
    "social header 3:1": 3.0,
    "video thumbnail 16:9": 16 / 9,
    "book cover 1:1.6": 1 / 1.6,
}
"""Width divided by height. Saved workflows contain these names, so they never change."""


def ratio_of(preset: str, aspect_ratio: float) -> float:
    """The preset's aspect ratio, or the slider's if the preset is :data:`FREE`."""
    return PRESETS.get(preset, aspect_ratio)


def size_of(aspect_ratio: float, megapixels: float) -> tuple[int, int]:
    """Width and height in pixels: multiples of 16, with a ratio from 1:4 to 4:1."""
    exact_width = math.sqrt(megapixels * MEGAPIXEL * aspect_ratio)
    width, height = _snapped(exact_width), _snapped(exact_width / aspect_ratio)
    # Rounding can produce a ratio such as 4.03 : 1, which the model does not accept.
    return min(width, MOST_EXTREME_RATIO * height), min(height, MOST_EXTREME_RATIO * width)


def exact_size(width: int, height: int, aspect_ratio: float) -> tuple[int, int]:
    """The exact width and height; where one of them is 0, it follows from the aspect ratio."""
    if not height:
        height = _snapped(width / aspect_ratio)
    if not width:
        width = _snapped(height * aspect_ratio)
    return width, height


def _snapped(exact: float) -> int:
    """Rounds to a multiple of 16; halves are rounded up as in JavaScript, not to even."""
    return max(1, math.floor(exact / SIZE_MULTIPLE + 0.5)) * SIZE_MULTIPLE
