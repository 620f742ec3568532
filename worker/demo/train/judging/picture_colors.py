"""The colours of a picture's letters and of their ground, as keys of `posters.colors`."""

import numpy as np

from posters.colors import lab, nearest

Box = tuple[int, int, int, int]

EDGE = 6
"""Pixels at each edge of a picture that may be a border, and are not judged."""

RING = 3
"""Width in pixels of the frame around a line's box whose dominant colour is its ground's."""

BIN = 8
"""Width of a histogram's bin, in units of 0..255, for the dominant colour."""

RADIUS = 24
"""Colours at most this far from the densest bin, in RGB, are averaged to the dominant colour."""

SECOND = 0.3
"""The second colour of a two-toned ground covers at least this share of it."""


def dominant(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The dominant colour of pixels [N, 3] in 0..255, and which of them have it (bool [N]): the
    mean around the densest place of a smoothed histogram."""
    pixels = np.asarray(pixels, np.float64)
    count = 256 // BIN + 2  # an empty bin at both ends
    places = np.minimum(pixels // BIN, 256 // BIN - 1).astype(int) + 1
    flat = (places[:, 0] * count + places[:, 1]) * count + places[:, 2]
    histogram = np.bincount(flat, minlength=count**3).reshape(count, count, count).astype(float)
    for axis in range(3):
        histogram = histogram + np.roll(histogram, 1, axis) + np.roll(histogram, -1, axis)
    best = np.array(np.unravel_index(histogram.argmax(), histogram.shape)) - 1
    near = np.linalg.norm(pixels - (best + 0.5) * BIN, axis=1) <= RADIUS
    return (pixels[near].mean(0) if near.any() else pixels.mean(0)), near


def _tones(pixels: np.ndarray) -> list[np.ndarray]:
    """The dominant colour of pixels [N, 3], and the second one if it covers enough of them."""
    first, near = dominant(pixels)
    if (~near).mean() < SECOND:
        return [first]
    second, same = dominant(pixels[~near])
    return [first, second] if same.sum() >= SECOND * len(pixels) else [first]


def ink_of(picture: np.ndarray, boxes: list[Box]) -> str | None:
    """The key of the colour of the letters in the boxes of a picture, uint8 [H, W, 3]; None
    without boxes.

    Within a box, letters are the pixels that are farther (in CIELAB) from the one or two colours
    of the box's frame than half of what the farthest twentieth of them are.
    """
    letters = []
    for left, top, right, bottom in boxes:
        area = picture[max(0, top - RING) : bottom + RING, max(0, left - RING) : right + RING]
        frame = np.ones(area.shape[:2], bool)
        frame[RING:-RING, RING:-RING] = False
        tones = [np.linalg.norm(lab(area) - lab(tone), axis=-1) for tone in _tones(area[frame])]
        distance = np.min(tones, axis=0)
        if not frame.all():
            far = np.quantile(distance[~frame], 0.95) / 2
            letters.append(area[(distance > far) & ~frame])
    pixels = np.concatenate(letters) if letters else np.zeros((0, 3))
    return nearest(dominant(pixels)[0]) if len(pixels) else None


def grounds_of(picture: np.ndarray, boxes: list[Box], upper: bool = False) -> set[str]:
    """The keys of the colours that a picture's ground may be said to have: the dominant one
    outside the boxes, the second one if it covers nearly as much (stripes, rays), and the one
    right around the letters (a card, a bag). With `upper`, only the upper eighth counts, where
    the colour of a gradient begins."""
    height, width = picture.shape[:2]
    inner = np.zeros((height, width), bool)
    inner[EDGE:-EDGE, EDGE:-EDGE] = True
    outside, around = inner.copy(), np.zeros_like(inner)
    for left, top, right, bottom in boxes:
        around[max(0, top - 8) : bottom + 8, max(0, left - 8) : right + 8] = True
        outside[max(0, top - RING) : bottom + RING, max(0, left - RING) : right + RING] = False
    if upper:
        top = inner & (np.arange(height) < max(height // 8, 2 * EDGE))[:, None]
        return {nearest(dominant(picture[top])[0])}
    pixels = picture[outside] if outside.sum() >= 256 else picture[inner]
    keys = {nearest(tone) for tone in _tones(pixels)}
    if around.any() and (around & outside).sum() >= 64:
        keys.add(nearest(dominant(picture[around & outside])[0]))
    return keys
