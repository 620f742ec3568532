"""Fast random choice."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Pick:
    """Picks from sequences with equal probability; much faster than `Generator.choice`."""

    def __init__(self, rng: np.random.Generator):
        self.number = rng.random

    def __call__(self, options: Sequence[T]) -> T:
        return options[int(self.number() * len(options))]

    def often(self, options: Sequence[T], common: int) -> T:
        """Picks one of the first `common` options half of the time, else any: a model learns what
        people usually write from a share that grows no smaller as more ways are listed."""
        return self(options[:common] if self.chance(0.5) else options)

    def index(self, count: int) -> int:
        """A number from 0 to `count` - 1."""
        return int(self.number() * count)

    def chance(self, share: float) -> bool:
        return self.number() < share

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return sorted(items, key=lambda _: self.number())


def article(noun: str) -> str:
    """The noun with its indefinite article."""
    vowel = noun[:1].lower() in "aeiou" and not noun.lower().startswith(("uni", "use", "eu", "one"))
    return f"{'an' if vowel else 'a'} {noun}"


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
