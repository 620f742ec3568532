"""The colours of posters: names, contrast, and the nearest name of any colour.

Any two keys are at least 12 units apart in CIELAB (CIE 1976 colour difference), so that they can
be told apart in a picture. Families of hue still lie close to each other where people disagree
about the border: teal and turquoise, gold and mustard, navy and dark blue, coral and light red.
"""

from functools import cache

import numpy as np

COLORS: dict[str, tuple[int, int, int]] = {
    "black": (18, 18, 20),
    "dark gray": (70, 72, 76),
    "gray": (128, 130, 134),
    "light gray": (190, 192, 196),
    "white": (252, 252, 252),
    "cream": (252, 240, 208),
    "beige": (226, 204, 166),
    "tan": (194, 150, 104),
    "brown": (122, 76, 44),
    "dark brown": (66, 38, 22),
    "maroon": (92, 8, 34),
    "dark red": (146, 16, 22),
    "red": (216, 32, 38),
    "neon red": (255, 30, 72),
    "light red": (244, 104, 108),
    "coral": (255, 134, 92),
    "peach": (255, 200, 172),
    "dark orange": (198, 82, 10),
    "orange": (246, 130, 24),
    "light orange": (255, 178, 96),
    "neon orange": (255, 92, 10),
    "gold": (214, 168, 50),
    "mustard": (180, 132, 16),
    "yellow": (254, 214, 36),
    "light yellow": (255, 232, 122),
    "pale yellow": (255, 246, 176),
    "neon yellow": (238, 255, 30),
    "olive": (116, 116, 28),
    "lime": (164, 212, 40),
    "neon green": (60, 255, 40),
    "light green": (140, 210, 124),
    "pale green": (206, 240, 196),
    "mint": (160, 240, 206),
    "green": (36, 150, 66),
    "forest green": (28, 100, 50),
    "dark green": (8, 60, 32),
    "dark teal": (6, 84, 92),
    "teal": (16, 146, 146),
    "turquoise": (60, 208, 194),
    "neon blue": (20, 230, 255),
    "pale blue": (206, 230, 250),
    "light blue": (134, 192, 244),
    "sky blue": (70, 160, 226),
    "blue": (34, 92, 212),
    "dark blue": (16, 44, 136),
    "navy": (18, 28, 72),
    "slate": (92, 112, 140),
    "indigo": (72, 50, 170),
    "violet": (132, 88, 226),
    "neon purple": (188, 50, 255),
    "purple": (122, 44, 160),
    "dark purple": (66, 18, 96),
    "lavender": (194, 168, 236),
    "pale purple": (230, 216, 248),
    "magenta": (200, 24, 136),
    "neon pink": (255, 52, 176),
    "hot pink": (250, 104, 160),
    "pink": (250, 158, 190),
    "pale pink": (255, 216, 226),
    "dark pink": (204, 70, 120),
    "burgundy": (128, 20, 62),
}
"""Key -> RGB in 0..255. Shades ("dark red") are keys of their own."""


@cache
def luminance(key: str) -> float:
    """Relative luminance in 0..1 as defined by WCAG 2.1 for sRGB."""
    return float(luminance_of(np.array(COLORS[key])))


def luminance_of(rgb: np.ndarray) -> np.ndarray:
    """Relative luminance (WCAG 2.1) of sRGB colours in 0..255 [..., 3]."""
    return _linear(rgb) @ (0.2126, 0.7152, 0.0722)


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two keys as defined by WCAG 2.1: 1 (equal) to 21 (black on white)."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB coordinates (CIE 15, white point D65) of sRGB colours in 0..255 [..., 3].

    The matrix from linear sRGB to XYZ is that of IEC 61966-2-1.
    """
    matrix = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    xyz = _linear(rgb) @ np.array(matrix).T / (0.9505, 1.0, 1.089)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def nearest(rgb) -> str:
    """The key nearest to a colour in 0..255 by CIE 1976 distance (Euclidean in CIELAB)."""
    distance = np.linalg.norm(_palette() - lab(np.asarray(rgb)), axis=-1)
    return tuple(COLORS)[int(distance.argmin())]


@cache
def _palette() -> np.ndarray:
    return lab(np.array(list(COLORS.values())))


def _linear(rgb: np.ndarray) -> np.ndarray:
    """Linear light in 0..1 from sRGB in 0..255 (transfer function of IEC 61966-2-1)."""
    c = np.asarray(rgb, np.float64) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
