"""Skeletons of prompts: what remains when quoted words, colours and nouns are masked."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from posters.poster import Phrase, Poster
from prompts import (
    chinese,
    chinese_color_roles,
    color_roles,
    english,
    family_names,
    scene_names,
)
from prompts.chinese import chinese_prompt
from prompts.color_names import CHINESE_NAMES, CHINESE_SHORT, ENGLISH_NAMES
from prompts.distractors import Distractors
from prompts.english_grammar import english_prompt
from prompts.pick import Pick
from prompts.quotes import QUOTES

POSTER = Poster("", (Phrase("GREEN"),), ink="red", ground="navy")


class Nothing(Distractors):
    """Distractors that are all alike."""

    def clause(self, pick: Pick) -> str:
        return "D"

    sentence = purpose = chinese_clause = chinese_sentence = chinese_purpose = clause


def _pattern(names: set[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))


def _masks(is_chinese: bool) -> list[tuple[re.Pattern[str], str]]:
    quotes = [re.escape(left + "green" + right) for left, right, *_ in QUOTES]
    keys = (POSTER.ink, POSTER.ground)
    if is_chinese:
        colors = {n for key in keys for n in (*CHINESE_NAMES[key], CHINESE_SHORT[key])}
        things = set(scene_names.CHINESE_THINGS) | set(
            getattr(scene_names, "CHINESE_COLORFUL_THINGS", ())
        )
        other = {*chinese.NOUNS, *family_names.CHINESE["grotesk"], *family_names.CHINESE_WEIGHTS,
                 *family_names.UNKNOWN_CHINESE, *scene_names.CHINESE_POSITIONS["center"],
                 *scene_names.CHINESE_SIZES["large"], *chinese.WISHES}  # fmt: skip
    else:
        colors = {name for key in keys for name in ENGLISH_NAMES[key]}
        things = {*scene_names.THINGS, *getattr(scene_names, "COLORFUL_THINGS", ())}
        other = {*english.NOUNS, *family_names.KINDS["grotesk"], *family_names.FONTS["grotesk"],
                 *family_names.WEIGHTS, *family_names.UNKNOWN_FONTS, *family_names.UNKNOWN_KINDS,
                 *family_names.LETTERS, *scene_names.SIZES["large"], *english.VERBS,
                 *scene_names.POSITIONS["center"]}  # fmt: skip
    roles = chinese_color_roles if is_chinese else color_roles
    for group in ("SINGULAR", "PLURAL", "LETTERS", "ALONE"):
        other |= set(getattr(roles, group, ()))
    # Every noun for the ground counts as "background", also those of statements of roles.
    grounds = {*roles.GROUNDS, *roles.SURFACES, *getattr(roles, "OBJECTS", ())}
    lower = [{name.lower() for name in names} for names in (colors, things, other, grounds)]
    found = [(re.compile("|".join(quotes)), "Q")]
    for names, mask in zip(lower, "CNLB", strict=True):
        words = _pattern(names)
        if not is_chinese:
            words = re.compile(rf"\b(?:{words.pattern})\b")
        found.append((words, mask))
    return found


def skeletons(count: int, is_chinese: bool) -> Counter[str]:
    """How often each skeleton occurs among `count` prompts for one poster."""
    pick, texts, masks = Pick(np.random.default_rng(1)), Nothing(), _masks(is_chinese)
    write = chinese_prompt if is_chinese else english_prompt
    found: Counter[str] = Counter()
    for _ in range(count):
        text = write(pick, POSTER, texts).lower()
        for words, mask in masks:
            text = words.sub(mask, text)
        text = re.sub(r"\ban?\b", "a", text)
        found[re.sub(r"(?:\bl )+l\b|L(?: L)+|L+", "L", text)] += 1
    return found


def effective(found: Counter[str]) -> float:
    """The number of equally frequent skeletons that would give as many equal pairs (the inverse of
    Simpson's index, estimated without bias)."""
    total = sum(found.values())
    pairs = sum(n * (n - 1) for n in found.values())
    return total * (total - 1) / max(pairs, 1)
