"""Where the parts of a surface lie, and where letters may stand on it.

All boxes are (left, top, right, bottom) in pixels, with the right and the bottom edge excluded.
Their edges are multiples of 8, so that one object looks the same on the grid of latents in every
size of poster.
"""

Box = tuple[int, int, int, int]

MARGIN = 8
"""Pixels between letters and the edge of the poster, or of the object they stand on."""


def _sixteenths(length: int, share: int) -> int:
    """`share` sixteenths of a length, as a multiple of 16 that is at least 16."""
    return max(16 * round(length * share / 256), 16)


def body(surface: str, width: int, height: int) -> Box:
    """The object on which the letters stand; the whole poster if the surface has none."""
    if surface == "tote":
        return 16, _sixteenths(height, 4), width - 16, height - 16
    if surface == "mug":
        high = _sixteenths(height, 2)
        return 16, high, width - _sixteenths(min(width, height), 4), height - high
    if surface == "card":
        high = _sixteenths(height, 2)
        return 16, high, width - 16, height - high
    if surface == "banner":
        high = _sixteenths(height, 3)
        return 16, high, width - 16, height - high
    return 0, 0, width, height


def icon(width: int, height: int) -> Box:
    """The picture on a start screen: above the letters, or left of them on a wide poster."""
    side = _sixteenths(min(width, height), 4)
    if width > 1.7 * height:
        top = (height - side) // 2
        return 16, top, 16 + side, top + side
    left, top = (width - side) // 2, _sixteenths(height, 1) + 8
    return left, top, left + side, top + side


def street(height: int) -> int:
    """The top edge of the wet street below a night sign."""
    return height - _sixteenths(height, 3)


def letters(surface: str, width: int, height: int) -> Box:
    """The box in which all letters stand."""
    left, top, right, bottom = body(surface, width, height)
    if surface == "night":
        bottom = street(height) + MARGIN
    elif surface == "splash":
        picture = icon(width, height)
        bottom -= 16
        if width > 1.7 * height:
            left = picture[2]
        else:
            top = picture[3]
    elif surface == "banner":
        top, bottom = top - MARGIN, bottom + MARGIN
    return left + MARGIN, top + MARGIN, right - MARGIN, bottom - MARGIN
