"""Training prompts, made from posters."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np

from posters.poster import Poster
from prompts.chinese import chinese_prompt
from prompts.distractors import Distractors
from prompts.english_grammar import english_prompt
from prompts.mentions import repeat
from prompts.naming import HAN
from prompts.pick import Pick
from prompts.quotes import quoted

RESERVED = (
    'a sign that says "OPEN"',
    'Poster, headline "QUARTZ" in bold dark blue letters on a white background',
    'Business card for a bakery called "Crumb", elegant gold letters on black',
)
"""Prompts that people tried on the first model; this one is judged by them, too."""


class Describer:
    """Describes posters as people would, with much around it that no poster shows.

    `assets` is the folder with the texts that `distractors.gather` wrote; without it, distractors
    come from word lists alone. `defaults` says what holds where the prompt says nothing.
    """

    def __init__(self, assets: Path | None = None):
        self.texts = Distractors(assets)

    def __call__(self, rng: np.random.Generator, poster: Poster) -> str:
        """A random prompt for the poster, whose own `prompt` is not looked at. Never one that the
        evaluation uses."""
        pick = Pick(rng)
        while True:
            prompt = self._any(pick, poster)
            if _letters(prompt) not in reserved():
                return prompt

    def _any(self, pick: Pick, poster: Poster) -> str:
        if any(HAN.search(phrase.text) for phrase in poster.phrases):
            chinese = pick.chance(0.62)
        else:
            chinese = pick.chance(0.12 if poster.phrases else 0.35)
        prompt = (chinese_prompt if chinese else english_prompt)(pick, poster, self.texts)
        if len(poster.phrases) == 1 and pick.chance(0.02):
            (quote,) = quoted(pick, [poster.phrases[0].text], chinese)
            prompt = repeat(pick, prompt, quote, chinese)
        if pick.chance(0.02):
            # A sentence in the other language.
            other = self.texts.sentence if chinese else self.texts.chinese_sentence
            prompt = f"{prompt} {other(pick)}"
        return prompt


def _letters(prompt: str) -> str:
    """The prompt in lower case, without signs and quotes."""
    return " ".join(re.findall(r"[^\W_]+", prompt.lower()))


@cache
def reserved(folder: Path = Path(__file__).parents[1] / "held_out") -> frozenset[str]:
    """The prompts that the evaluation uses, as from `_letters`."""
    found = {_letters(prompt) for prompt in RESERVED}
    for file in folder.glob("*.jsonl"):
        rows = map(json.loads, file.read_text("utf-8").splitlines())
        found.update(_letters(row["prompt"]) for row in rows if row.get("prompt"))
    return frozenset(found)


@cache
def _plain() -> Describer:
    return Describer()


def describe(rng: np.random.Generator, poster: Poster) -> str:
    """A random prompt for the poster, with distractors from word lists alone."""
    return _plain()(rng, poster)
