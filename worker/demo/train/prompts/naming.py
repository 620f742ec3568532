"""Which properties of a poster a prompt names."""

import re
from dataclasses import dataclass

from posters.poster import Phrase, Poster
from prompts import family_names as families
from prompts.defaults import has_default_ground, has_default_ink
from prompts.pick import Pick

HAN = re.compile(r"[\u3400-\u9fff]")


@dataclass
class Naming:
    """The properties that are named; positions and sizes for each phrase."""

    family: bool
    ink: bool
    ground: bool
    positions: list[bool]
    sizes: list[bool]

    def together(self, phrases: tuple[Phrase, ...]) -> bool:
        """Whether one clause may hold two phrases: they have the same position and size, and the
        size is not named."""
        if len(phrases) != 2 or any(self.sizes):
            return False
        first, second = phrases
        return first.position == second.position and first.size == second.size


def naming(pick: Pick, poster: Poster) -> Naming:
    """What differs from the defaults is always named, the rest sometimes. An accent is always named
    with its ground."""
    usual = 0.4
    return Naming(
        family=poster.family != families.FAMILY or pick.chance(usual),
        ink=not has_default_ink(poster) or pick.chance(usual),
        ground=not has_default_ground(poster) or bool(poster.accent) or pick.chance(usual),
        positions=[p.position != "center" or pick.chance(0.25) for p in poster.phrases],
        sizes=[p.size != "large" or pick.chance(0.2) for p in poster.phrases],
    )
