"""The content of posters: random designs, and the prompts that describe them."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

import headlines
from typesetting import cell_width, font_of

COLORS = {
    "red": (214, 36, 42),
    "orange": (244, 126, 32),
    "yellow": (252, 212, 44),
    "green": (32, 134, 66),
    "teal": (16, 150, 152),
    "blue": (36, 92, 208),
    "navy": (18, 34, 84),
    "purple": (118, 50, 160),
    "pink": (248, 152, 188),
    "brown": (110, 70, 46),
    "black": (20, 20, 22),
    "white": (250, 250, 250),
    "cream": (250, 240, 214),
}

STYLES = {
    "bold": ("bold", "big bold", "heavy", "strong"),
    "serif": ("serif", "classic", "slab serif"),
    "tall": ("tall", "narrow", "condensed"),
}

SURFACES = {
    "plain": ("background", "backdrop"),
    "gradient": ("gradient background", "gradient"),
    "striped": ("striped background",),
    "brick": ("brick wall",),
    "wood": ("wooden board",),
}

KINDS = (
    "Sale poster", "Poster", "A poster", "Event poster", "Movie poster", "Concert poster",
    "Travel poster", "Banner", "Flyer", "A flyer", "Sign", "Shop sign", "A sign", "Card",
    "Greeting card", "Book cover", "Billboard", "Label", "Cover", "Advertisement",
)  # fmt: skip

POSITIONS = {
    "center": ("in the center", "in the middle", "centered"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
}

# {k}: kind of poster; {h}: the quoted headline; {s}: style and colour of the letters with a
# leading space, as in " bold red"; {p}: position with a leading space, or empty; {b}: background
# with its article.
TEMPLATES = (
    "{k}, headline {h} in{s} letters{p} on {b}",
    "{k}, headline {h}{p} in{s} letters, {b}",
    "{k} with the text {h}{p} in{s} letters on {b}",
    "{k} with the headline {h} in{s} type{p}, {b}",
    "{k} that says {h} in{s} letters{p}, {b}",
    "{h} in{s} letters{p} on {b}",
    "the word {h} in{s} letters{p} on {b}",
    "{b} with the text {h} in{s} letters{p}",
    "{b}, headline {h}{p},{s} letters",
    "{k} on {b},{s} headline {h}{p}",
    "text {h},{s} letters, {b}{p}",
)


@dataclass(frozen=True)
class Poster:
    """The content of a poster, and the prompt that describes it."""

    prompt: str
    lines: tuple[str, ...]
    style: str = "bold"
    ink: str = "black"
    ground: str = "white"
    surface: str = "plain"
    border: bool = False
    position: str = "center"
    width: int = 256
    height: int = 256


def luminance(color: str) -> float:
    """Relative luminance as in WCAG, with a gamma of 2.2."""
    linear = [(c / 255) ** 2.2 for c in COLORS[color]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@lru_cache
def inks(ground: str, surface: str) -> tuple[str, ...]:
    """Colours with enough contrast on `ground`. Two-toned surfaces require more contrast."""
    enough = 3.0 if surface == "plain" else 4.2

    def contrast(other: str) -> float:
        low, high = sorted((luminance(ground), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    return tuple(c for c in COLORS if contrast(c) >= enough)


def describe(rng: np.random.Generator, poster: Poster, named: set[str]) -> str:
    """A prompt for the poster. It mentions style and position only if they are in `named`."""
    article = "an" if poster.ground == "orange" else "a"
    surface = str(rng.choice(SURFACES[poster.surface]))
    ground = f"{article} {poster.ground} {surface}"
    if poster.border:
        ground += " with a border"
    style = f" {poster.ink}"
    if "style" in named:
        style = f" {rng.choice(STYLES[poster.style])}{style}"
    place = f" {rng.choice(POSITIONS[poster.position])}" if "position" in named else ""
    template = str(rng.choice(TEMPLATES))
    quote = "''" if rng.random() < 0.04 else "“”" if rng.random() < 0.1 else '""'
    quoted = quote[0] + " ".join(poster.lines) + quote[1]
    prompt = template.format(k=rng.choice(KINDS), h=quoted, s=style, p=place, b=ground)
    # Half of the prompts start with a capital letter.
    return prompt[0].upper() + prompt[1:] if rng.random() < 0.5 else prompt


def sample(
    rng: np.random.Generator, config: dict, words: tuple[str, ...], size: tuple[int, int]
) -> Poster:
    """A random poster of `size` (width, height) with its prompt. `config` is the table `posters` of
    config.toml."""
    shares = config["headlines"]
    kinds = list(shares)
    while True:
        kind = kinds[rng.choice(len(kinds), p=np.array(list(shares.values())))]
        count = 2 if rng.random() < config["two_lines"] else 1
        if kind == "chinese":
            longest, count = headlines.LONGEST_CHINESE, 2 if rng.random() < 0.08 else 1
        else:
            longest = headlines.LONGEST_WORD
        lines = tuple(headlines.line(rng, kind, longest, words) for _ in range(count))
        if poster := dress(rng, lines, size, config["wrong_prompts"]):
            return poster


def mistaken(rng: np.random.Generator, poster: Poster) -> Poster:
    """A copy of the poster with one error, to make a wrong prompt from: another colour of the
    letters or the background, or a misspelt headline. The headline is never a held-out one."""
    what = rng.random()
    if what < 0.2:
        return replace(poster, ink=str(rng.choice(list(COLORS))))
    if what < 0.4:
        return replace(poster, ground=str(rng.choice(list(COLORS))))
    while True:
        lines = list(poster.lines)
        number = int(rng.integers(len(lines)))
        lines[number] = headlines.misspelt(rng, lines[number])
        if lines[number].lower() not in headlines.held_out():
            return replace(poster, lines=tuple(lines))


def dress(
    rng: np.random.Generator,
    lines: tuple[str, ...],
    size: tuple[int, int] = (256, 256),
    wrong: float = 0.0,
) -> Poster | None:
    """A poster with this headline and everything else random; None if the headline does not fit
    the size. With probability `wrong`, the prompt describes a `mistaken` copy."""
    ground = str(rng.choice(list(COLORS)))
    surface = str(rng.choice(list(SURFACES), p=[0.6, 0.12, 0.1, 0.09, 0.09]))
    named = set()
    style = "bold"
    if font_of(lines, style) != "han":
        style = str(rng.choice(list(STYLES), p=[0.6, 0.2, 0.2]))
    if style != "bold" or rng.random() < 0.5:
        named.add("style")
    if cell_width(lines, style, *size) is None:
        return None
    position = "center" if rng.random() < 0.5 else str(rng.choice(["top", "bottom"]))
    if position != "center" or rng.random() < 0.3:
        named.add("position")
    poster = Poster(
        prompt="",
        lines=lines,
        style=style,
        ink=str(rng.choice(inks(ground, surface))),
        ground=ground,
        surface=surface,
        border=bool(rng.random() < 0.08),
        position=position,
        width=size[0],
        height=size[1],
    )
    # With `wrong` 0 nothing is drawn here, on which the held-out lists depend.
    told = mistaken(rng, poster) if wrong and rng.random() < wrong else poster
    return replace(poster, prompt=describe(rng, told, named))
