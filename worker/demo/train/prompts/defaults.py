"""What a poster shows where its prompt says nothing.

The rules: letters of `family_names.FAMILY`, large, in the centre, without shadow and border, on a
plain ground. The ground is the surface's natural one, which is white for a plain surface
(`GROUNDS`). The letters are black or white, whichever has more contrast to the ground. Without an
accent, a surface shows tones of its ground. Two things remain random where nothing is said: a
"pastel" gradient has any of the pastel colours, and "neon" letters at night any neon colour.
"""

from dataclasses import replace
from functools import cache

import numpy as np

from posters.colors import COLORS, contrast
from posters.poster import SURFACES, Poster

_NATURAL = {
    "gradient": ("pale blue", "light blue"),
    "paper": ("cream", "beige"),
    "wood": ("brown",),
    "brick": ("dark red", "red"),
    "sunburst": ("yellow",),
    "night": ("black",),
    "tote": ("beige", "cream"),
}
GROUNDS = {
    surface: next(key for key in (*_NATURAL.get(surface, ()), "white") if key in COLORS)
    for surface in SURFACES
}
"""The ground of each surface when no colour is named."""

LEGIBLE = 3.0
"""Least contrast of letters that `simplified` leaves as they are on a new ground."""


@cache
def default_ink(ground: str) -> str:
    """Colour of the letters on `ground` when none is named."""
    return max(("white", "black"), key=lambda ink: contrast(ink, ground))


def has_default_ground(poster: Poster) -> bool:
    return poster.ground == GROUNDS[poster.surface]


def has_default_ink(poster: Poster) -> bool:
    return poster.ink == default_ink(poster.ground)


def simplified(
    rng: np.random.Generator, poster: Poster, ground: float = 0.25, ink: float = 0.2
) -> Poster:
    """The poster, with the default ground in a share `ground`, and with the default ink in a share
    `ink` of all cases, so that a prompt may leave them out. Call this before the poster is painted
    and described: random colours are hardly ever the defaults."""
    if rng.random() < ground:
        accent = poster.accent
        if accent == GROUNDS[poster.surface] or rng.random() < 0.5:
            accent = None
        poster = replace(poster, ground=GROUNDS[poster.surface], accent=accent)
    if rng.random() < ink or contrast(poster.ink, poster.ground) < LEGIBLE:
        poster = replace(poster, ink=default_ink(poster.ground))
    return poster
