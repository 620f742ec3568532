"""The sizes Ovis-Image takes."""

from __future__ import annotations

import math

LATENT_CHANNELS = 16
LATENT_PIXELS = 8
"""Pixels, each way, of one position of a latent."""
SIZE_MULTIPLE = 16
MOST_EXTREME_RATIO = 4
MEGAPIXEL = 1024 * 1024


def size_of(aspect_ratio: float, megapixels: float) -> tuple[int, int]:
    """Width and height in pixels: the nearest multiples of 16 that keep to 1:4 .. 4:1."""
    exact_width = math.sqrt(megapixels * MEGAPIXEL * aspect_ratio)
    width = max(1, round(exact_width / SIZE_MULTIPLE)) * SIZE_MULTIPLE
    height = max(1, round(exact_width / aspect_ratio / SIZE_MULTIPLE)) * SIZE_MULTIPLE
    # Rounding can leave 4.03 : 1, which the model does not take.
    return min(width, MOST_EXTREME_RATIO * height), min(height, MOST_EXTREME_RATIO * width)
