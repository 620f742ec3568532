"""The colours of a picture's letters and of their ground, as far as keys of `posters.colors`."""

import numpy as np

from posters.colors import lab, nearest

RING = 3
"""Width in pixels of the frame around a line's box that is taken as ground."""

BIN = 8
"""Width of a histogram's bin, in units of 0..255, for the dominant colour."""

RADIUS = 28
"""Colours at most this far from the densest bin, in RGB, are averaged to the dominant colour."""


def dominant(pixels: np.ndarray) -> np.ndarray:
    """The dominant colour of pixels [N, 3] in 0..255: the mean around the densest place of a
    smoothed histogram."""
    pixels = np.asarray(pixels, np.float64).reshape(-1, 3)
    count = 256 // BIN
    places = (pixels // BIN).astype(int)
    histogram = np.zeros((count + 2,) * 3)
    np.add.at(histogram, tuple((places + 1).T), 1)
    for axis in range(3):
        histogram += np.roll(histogram, 1, axis) + np.roll(histogram, -1, axis)
    best = np.array(np.unravel_index(histogram.argmax(), histogram.shape)) - 1
    center = (best + 0.5) * BIN
    near = np.linalg.norm(pixels - center, axis=1) <= RADIUS
    return pixels[near].mean(0)


def split(picture: np.ndarray, boxes: list[tuple[int, int, int, int]]):
    """The pixels of letters, and those of the ground around all boxes: two arrays [N, 3].

    Within a box, letters are the pixels farther (in CIELAB) from the colour of the box's frame
    than half of what the farthest tenth of them are.
    """
    height, width = picture.shape[:2]
    outside = np.ones((height, width), bool)
    letters = []
    for left, top, right, bottom in boxes:
        rows = slice(max(0, top - RING), min(height, bottom + RING))
        columns = slice(max(0, left - RING), min(width, right + RING))
        outside[rows, columns] = False
        area = picture[rows, columns].astype(np.float64)
        frame = np.ones(area.shape[:2], bool)
        frame[RING:-RING, RING:-RING] = False
        distance = np.linalg.norm(lab(area) - lab(dominant(area[frame])), axis=-1)
        inside = distance[~frame]
        if inside.size:
            letters.append(area[(distance > np.quantile(inside, 0.9) / 2) & ~frame])
    ground = picture[outside] if outside.sum() >= 64 else picture.reshape(-1, 3)
    return np.concatenate(letters) if letters else np.zeros((0, 3)), ground


def colors_of(
    picture: np.ndarray, boxes: list[tuple[int, int, int, int]]
) -> tuple[str | None, str]:
    """The nearest keys of the colours of letters and ground of a picture, uint8 [H, W, 3], whose
    lines of text stand in the boxes; no colour of letters without boxes."""
    letters, ground = split(picture, boxes)
    return nearest(dominant(letters)) if len(letters) else None, nearest(dominant(ground))
