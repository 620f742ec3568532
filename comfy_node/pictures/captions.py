"""Words on pictures, in fonts that need no download."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER = (24, 24, 26)
INK = (235, 235, 235)
_LAST_OF_PILLOWS_FONT = "\u02ff"
# Pillow's own font has Latin letters only. These lie on Linux, Windows and macOS.
_CJK_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-microhei.ttc",
    "msyh.ttc",
    "simhei.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
)


@functools.lru_cache(maxsize=32)
def _font(size: int, cjk: bool) -> ImageFont.FreeTypeFont:
    for name in _CJK_FONTS if cjk else ():
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of about ``size`` pixels that has the text's letters, where there is one."""
    return _font(size, any(letter > _LAST_OF_PILLOWS_FONT and letter.isalpha() for letter in text))


def size_of_text(text: str, size: int) -> tuple[int, int]:
    """Width and height of what :func:`write` draws."""
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox(
        (0, 0), text, font=font_for(text, size)
    )
    return int(np.ceil(box[2])), int(np.ceil(box[3]))


def write(page: Image.Image, text: str, box: tuple[int, int, int, int], size: int) -> None:
    """Writes in the middle of ``box`` (left, top, right, bottom), smaller if it must to fit."""
    left, top, right, bottom = box
    while size > 8 and size_of_text(text, size)[0] > right - left:
        size -= 1
    ImageDraw.Draw(page).multiline_text(
        ((left + right) / 2, (top + bottom) / 2),
        text,
        fill=INK,
        font=font_for(text, size),
        anchor="mm",
        align="center",
    )


def to_page(pixels: np.ndarray) -> Image.Image:
    """``[H, W, 3]`` of 0 to 1 as a picture."""
    return Image.fromarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def to_pixels(page: Image.Image) -> np.ndarray:
    """A picture as float32 ``[H, W, 3]`` of 0 to 1."""
    return np.asarray(page.convert("RGB"), dtype=np.float32) / 255
