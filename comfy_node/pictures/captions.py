"""Text on images, in fonts that need no download."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (24, 24, 26)
FOREGROUND = (235, 235, 235)
_LAST_OF_PILLOWS_FONT = "\u02ff"
# Pillow's own font has Latin letters only. These fonts come with Linux, Windows and macOS.
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
    """A font of about ``size`` pixels with the text's letters, if this machine has one."""
    return _font(size, any(letter > _LAST_OF_PILLOWS_FONT and letter.isalpha() for letter in text))


def text_size(text: str, size: int) -> tuple[int, int]:
    """Width and height of the text as :func:`draw_text` draws it."""
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox(
        (0, 0), text, font=font_for(text, size)
    )
    return int(np.ceil(box[2])), int(np.ceil(box[3]))


def draw_text(page: Image.Image, text: str, box: tuple[int, int, int, int], size: int) -> None:
    """Centres text in ``box`` (left, top, right, bottom); reduces its size until it fits."""
    left, top, right, bottom = box
    while size > 8 and text_size(text, size)[0] > right - left:
        size -= 1
    ImageDraw.Draw(page).multiline_text(
        ((left + right) / 2, (top + bottom) / 2),
        text,
        fill=FOREGROUND,
        font=font_for(text, size),
        anchor="mm",
        align="center",
    )


def to_image(pixels: np.ndarray) -> Image.Image:
    """Converts ``[H, W, 3]`` with values from 0 to 1 to a PIL image."""
    return Image.fromarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def to_pixels(page: Image.Image) -> np.ndarray:
    """Converts a PIL image to float32 ``[H, W, 3]`` with values from 0 to 1."""
    return np.asarray(page.convert("RGB"), dtype=np.float32) / 255
