"""What a poster shows where its prompt says nothing.

The rules: letters of `family_names.FAMILY`, large, in the centre, without shadow and border, on a
plain ground. The ground is the surface's natural one, which is white for a plain surface
(`GROUNDS`). The letters are black or white, whichever has more contrast to what they stand on.
Without an accent, a surface shows tones of its ground, and a border has the letters' colour. Two
things remain random where no colour is named: a "pastel" gradient has any of the pastel colours,
and "neon" letters at night have any neon colour.
"""

from dataclasses import replace

import numpy as np

from posters.colors import COLORS, contrast
from posters.poster import SURFACES, Poster
from posters.random_posters import accents, inks
from posters.surfaces import UNDER_LETTERS

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


def _under_letters(poster: Poster) -> tuple[str, ...]:
    """The colours on which the letters stand."""
    if poster.accent is None or poster.surface not in UNDER_LETTERS:
        return (poster.ground,)
    return (poster.accent,) if poster.surface == "banner" else (poster.ground, poster.accent)


def default_ink(poster: Poster) -> str:
    """Colour of the letters when none is named."""
    below = _under_letters(poster)
    return max(("white", "black"), key=lambda ink: min(contrast(ink, key) for key in below))


def has_default_ground(poster: Poster) -> bool:
    return poster.ground == GROUNDS[poster.surface]


def has_default_ink(poster: Poster) -> bool:
    return poster.ink == default_ink(poster)


def simplified(
    rng: np.random.Generator, poster: Poster, ground: float = 0.25, ink: float = 0.2
) -> Poster:
    """The poster, with the default ground in a share `ground`, and with the default ink in a share
    `ink` of all cases, so that a prompt may leave them out. Call this before the poster is painted
    and described: random colours are hardly ever the defaults."""
    changed = poster
    if rng.random() < ground:
        key = GROUNDS[poster.surface]
        kept = poster.accent in accents(key) and rng.random() < 0.5
        changed = replace(changed, ground=key, accent=poster.accent if kept else None)
    legible = inks(changed.surface, changed.ground, changed.accent)
    if rng.random() < ink or changed.ink not in legible:
        changed = replace(changed, ink=default_ink(changed))
    return changed if changed.ink in legible else poster
