"""What a poster shows, as data. Everything else in the recipe is written against this file.

`random_posters` makes posters up, `prompts` describes them, `painter` draws them, and `judging`
compares pictures with them. Keys are short English names in lower case; `prompts` knows the many
names that people have for each.
"""

from dataclasses import dataclass

FAMILIES = (
    "grotesk", "serif", "slab", "mono", "condensed", "rounded", "script", "stencil", "marker",
)  # fmt: skip
"""Families of letters. The Chinese characters of a family are those of a fitting Chinese font."""

SURFACES = (
    "plain", "gradient", "paper", "wood", "brick", "stripes", "sunburst", "night", "splash",
    "tote", "mug", "card", "banner",
)  # fmt: skip
"""What the letters stand on. `night` has dark ground, a glow around the letters and their
reflection on a wet street; `splash` is a phone's start screen, `tote` a bag, `mug` a cup,
`card` a card on a table, and `banner` a ribbon."""

POSITIONS = ("center", "top", "bottom")
SIZES = ("large", "small")


@dataclass(frozen=True)
class Phrase:
    """Quoted words. `text` is as in the prompt; spaces are where lines may break."""

    text: str
    position: str = "center"
    size: str = "large"


@dataclass(frozen=True)
class Poster:
    """The content of a poster, and the prompt that describes it.

    A poster has no, one or two phrases. Two phrases of the same position stand below each other.
    Colours are RGB in 0..255 beside the key they were made from: shades ("dark red") have a key
    of their own. `accent` colours what a surface shows beside its ground: the stripes, the rays,
    the table, the ribbon, the border; a surface without an accent has a tone of its ground.
    """

    prompt: str
    phrases: tuple[Phrase, ...]
    family: str = "grotesk"
    ink: str = "black"
    ground: str = "white"
    accent: str | None = None
    surface: str = "plain"
    border: bool = False
    shadow: bool = False
    width: int = 256
    height: int = 256
