"""Combines two images in one: side by side, stacked, split, or as their difference."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from . import captions

LAYOUTS = ("side by side", "stacked", "split", "difference")


def compare(
    before: np.ndarray,
    after: np.ndarray,
    layout: str,
    names: tuple[str, str] = ("", ""),
    position: float = 0.5,
    gain: float = 1.0,
) -> np.ndarray:
    """Combines two images of the same size to float32 ``[H, W, 3]``.

    ``names`` are captions, which may be empty. ``position`` is the position of a split from 0
    (left) to 1; ``gain`` brightens a difference.
    """
    if layout == "difference":
        return np.clip(np.abs(after - before) * gain, 0, 1).astype(np.float32)
    height, width = before.shape[:2]
    letters = max(12, min(width, height) // 24)
    if layout == "split":
        return _split(before, after, names, round(position * width), letters)
    gap = max(4, letters // 3)
    head = letters + 3 * gap if any(names) else 0
    places = [(0, 0), (width + gap, 0)]
    if layout == "stacked":
        places = [(0, 0), (0, head + height + gap)]
    left, top = places[1]
    page = Image.new("RGB", (left + width, top + head + height), captions.BACKGROUND)
    for (x, y), name, image in zip(places, names, (before, after), strict=True):
        if name:
            captions.draw_text(page, name, (x, y, x + width, y + head), letters)
        page.paste(captions.to_image(image), (x, y + head))
    return captions.to_pixels(page)


def _split(
    before: np.ndarray, after: np.ndarray, names: tuple[str, str], middle: int, letters: int
) -> np.ndarray:
    height, width = before.shape[:2]
    page = captions.to_image(np.concatenate([before[:, :middle], after[:, middle:]], axis=1))
    draw = ImageDraw.Draw(page)
    if 0 < middle < width:
        thick = max(1, width // 512)
        draw.rectangle((middle - thick, 0, middle + thick - 1, height), fill=captions.FOREGROUND)
    pad = letters // 2
    for name, is_left, room in ((names[0], True, middle), (names[1], False, width - middle)):
        wide = captions.text_size(name, letters)[0] + 2 * pad if name else 0
        if not name or wide + 2 * pad > room:
            continue
        left = pad if is_left else width - pad - wide
        box = (left, pad, left + wide, pad + letters + pad)
        draw.rounded_rectangle(box, radius=pad, fill=captions.BACKGROUND)
        captions.draw_text(page, name, box, letters)
    return captions.to_pixels(page)
