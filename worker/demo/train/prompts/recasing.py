"""Careless spelling outside the quotes: all lower case, all capitals, and slips of the finger."""

import re

from prompts.pick import Pick

LOWER, UPPER, TITLE, SLIP = 0.07, 0.065, 0.015, 0.04
"""Shares of the prompts that are written in these ways."""

LONGEST_UPPER = 90
"""Capital letters are a token each, so longer prompts are not written with more of them."""


def careless(pick: Pick, prompt: str, quotes: list[str]) -> str:
    """The prompt, at times in another case or with a slip; `quotes` in it stay as they are."""
    roll = pick.number()
    if roll < LOWER:
        return _outside(prompt, quotes, str.lower)
    if roll < LOWER + UPPER:
        return _outside(prompt, quotes, str.upper) if len(prompt) < LONGEST_UPPER else prompt
    if roll < LOWER + UPPER + TITLE:
        return _outside(prompt, quotes, str.title) if len(prompt) < LONGEST_UPPER else prompt
    if roll < LOWER + UPPER + TITLE + SLIP:
        return _outside(prompt, quotes, lambda text: _slip(pick, text))
    return prompt


def _outside(prompt: str, quotes: list[str], change) -> str:
    """The prompt with everything changed but the quotes."""
    if not quotes:
        return change(prompt)
    parts = re.split("(" + "|".join(map(re.escape, quotes)) + ")", prompt)
    return "".join(part if part in quotes else change(part) for part in parts)


def _slip(pick: Pick, text: str) -> str:
    """The text with two neighbouring letters swapped, or one missing or doubled."""
    places = [match.start() for match in re.finditer(r"[a-z]{2}", text)]
    if not places:
        return text
    at = pick(places)
    first, second = text[at], text[at + 1]
    return text[:at] + pick((second + first, second, first + first + second)) + text[at + 2 :]
