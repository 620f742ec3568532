"""Makes up posters: their phrases, colours, surfaces and sizes."""

from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import tomllib

from . import phrases, surfaces
from .colors import COLORS, lab, luminance, luminance_of
from .poster import Phrase, Poster
from .typesetting import set_lines

LEAST_CONTRAST = 3.0
"""Least contrast (WCAG) between ink and all large tones below it: that of large text."""
TRIES = 6
"""Designs that are tried for phrases before they count as too long for the size."""
NIGHT = tuple(key for key in COLORS if luminance(key) < 0.035)
"""Grounds of the night."""
GLOWING = tuple(key for key in COLORS if luminance(key) > 0.2)
"""Inks that glow on them."""


@cache
def default_table() -> dict:
    """The table `posters` of config.toml."""
    file = Path(__file__).parents[1] / "config.toml"
    return tomllib.loads(file.read_text("utf-8"))["posters"]


def sample(rng: np.random.Generator, table: dict, size: tuple[int, int]) -> Poster:
    """A random poster of `size` (width, height), without a prompt. `table` is the table `posters`
    of config.toml with the path of the assets folder added as `assets`."""
    source = phrases.words(Path(table["assets"]))
    while True:
        if poster := dress(rng, _phrases(rng, table, source), size, table):
            return poster


def dress(
    rng: np.random.Generator,
    texts: tuple[Phrase, ...],
    size: tuple[int, int] = (256, 256),
    table: dict | None = None,
) -> Poster | None:
    """A poster with these phrases and everything else random; None if they do not fit the size.
    Without `table`, the shares are those of config.toml."""
    table = table or default_table()
    for _ in range(TRIES):
        surface = _draw(rng, table["surfaces"])
        ground = _one(rng, NIGHT if surface == "night" else tuple(COLORS))
        border = bool(rng.random() < table["border"])
        accent = None
        if (surface != "plain" or border) and rng.random() < table["accent"]:
            accent = _one(rng, accents(ground))
        choices = inks(surface, ground, accent)
        if not choices:
            continue
        poster = Poster(
            prompt="",
            phrases=texts,
            family=_draw(rng, table["families"]),
            ink=_one(rng, choices),
            ground=ground,
            accent=accent,
            surface=surface,
            border=border,
            shadow=bool(texts and surface != "night" and rng.random() < table["shadow"]),
            width=size[0],
            height=size[1],
        )
        if set_lines(poster) is not None:
            return poster
    return None


@lru_cache(maxsize=65536)
def inks(surface: str, ground: str, accent: str | None = None) -> tuple[str, ...]:
    """Colours that can be read on a surface."""
    other = COLORS[accent] if accent else None
    tones = surfaces.tones(surface, COLORS[ground], other)
    below = [surfaces.GROUND, surfaces.SHADE]
    if surface in surfaces.UNDER_LETTERS:
        below.append(surfaces.SECOND)
    levels = luminance_of(tones[below])
    if surface == "night":
        return tuple(key for key in GLOWING if _readable(luminance(key), levels))
    return tuple(key for key in COLORS if _readable(luminance(key), levels))


@cache
def accents(ground: str) -> tuple[str, ...]:
    """Colours that are clearly different from the ground: 30 units apart in CIELAB."""
    colors = lab(np.array(list(COLORS.values())))
    distance = np.linalg.norm(colors - lab(np.array(COLORS[ground])), axis=-1)
    return tuple(key for key, far in zip(COLORS, distance, strict=True) if far >= 30)


def _readable(ink: float, levels: np.ndarray) -> bool:
    contrast = (np.maximum(ink, levels) + 0.05) / (np.minimum(ink, levels) + 0.05)
    return bool(contrast.min() >= LEAST_CONTRAST)


def _phrases(rng: np.random.Generator, table: dict, source: phrases.Words) -> tuple[Phrase, ...]:
    """No, one or two random phrases with positions and sizes."""
    if rng.random() < table["no_phrase"]:
        return ()

    def one(position: str, small: float) -> Phrase:
        text = phrases.phrase(rng, table["phrases"], source)
        return Phrase(text, position, "small" if rng.random() < small else "large")

    if rng.random() >= table["two_phrases"]:
        return (one(_draw(rng, table["positions"]), 0.12),)
    places = (("top", "bottom"), ("center", "center"), ("center", "bottom"), ("top", "center"))
    first, second = places[rng.choice(4, p=(0.5, 0.2, 0.2, 0.1))]
    return one(first, 0.1), one(second, 0.4)


def _draw(rng: np.random.Generator, shares: dict[str, float]) -> str:
    keys = list(shares)
    return keys[rng.choice(len(keys), p=np.array(list(shares.values())))]


def _one(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[rng.integers(len(choices))]
