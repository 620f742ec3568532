"""Random posters with prompts, for the tests of the demo model's training data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from posters import random_posters
from posters.poster import POSITIONS, SIZES, Phrase, Poster
from prompts.defaults import simplified
from prompts.describe import describe

PHRASES = (
    "SUMMER SALE", "Open", "30 % OFF!", "hello world", "I can't wait", "Don’t panic", "Tea & Co.",
    "GREEN", "Quartz 7", "新年快乐", "开业大吉", "限时 特价", "One two three", "3.50 €", "a", "夜",
)  # fmt: skip


def random_poster(rng: np.random.Generator) -> Poster:
    """A poster with zero to two of `PHRASES` and with or without default colours."""
    while True:
        phrases = tuple(
            Phrase(str(rng.choice(PHRASES)), str(rng.choice(POSITIONS)), str(rng.choice(SIZES)))
            for _ in range(rng.integers(3))
        )
        if poster := random_posters.dress(rng, phrases, (512, 512)):
            return simplified(rng, poster)


def described(count: int) -> list[Poster]:
    """Random posters with their prompts; always the same."""
    rng = np.random.default_rng(0)
    found = [random_poster(rng) for _ in range(count)]
    return [replace(poster, prompt=describe(rng, poster)) for poster in found]
