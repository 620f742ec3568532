"""Wrong captions: a share of the prompts describes another poster than the one that is drawn.

As in the captions of large collections, an error now and then is what makes guidance useful.
"""

import string
from dataclasses import replace

import numpy as np

from posters.colors import COLORS
from posters.poster import Poster
from prompts.pick import Pick
from prompts.tokenizer import LISTS

_SIGNS = "%&!?+-#"
_KINDS = (
    string.ascii_uppercase,
    string.ascii_lowercase,
    string.digits,
    "".join((LISTS / "characters.txt").read_text("utf-8").split()),
)


def misspelt(pick: Pick, text: str) -> str:
    """The text with one letter replaced by another of its kind, dropped or doubled."""
    places = [place for place, char in enumerate(text) if char != " "]
    place = pick(places)
    old = text[place]
    kind = next((kind for kind in _KINDS if old in kind), _SIGNS)
    new = pick(kind)
    roll = pick.number()
    if roll < 0.15 and len(places) > 1:
        alone = text[place - 1 : place] in ("", " ") and text[place + 1 : place + 2] in ("", " ")
        new = old if alone else ""
    elif roll < 0.3:
        new = 2 * old
    return text[:place] + new + text[place + 1 :]


def mistaken(rng: np.random.Generator, poster: Poster) -> Poster:
    """A copy of the poster with one error, for a wrong prompt: another colour of the letters or
    the ground, or a misspelt phrase. The copy is described and never drawn, so it need not be
    legible or fit."""
    pick = Pick(rng)
    roll = pick.number()
    if roll < 0.2 or (not poster.phrases and roll < 0.6):
        return replace(poster, ground=pick(tuple(COLORS)))
    if roll < 0.4 or not poster.phrases:
        return replace(poster, ink=pick(tuple(COLORS)))
    phrases = list(poster.phrases)
    number = int(pick.number() * len(phrases))
    phrases[number] = replace(phrases[number], text=misspelt(pick, phrases[number].text))
    return replace(poster, phrases=tuple(phrases))
