"""Counts the words of training prompts, for the tokenizer.

    python3 -m prompts.frequent ASSETS

Writes lists/words.txt: lower-case words, the most useful ones first. This changes the vocabulary,
so that no earlier checkpoint fits any more.
"""

import re
import sys
from collections import Counter
from heapq import heapify, heappop, heappush
from pathlib import Path

from prompts import distractor_words, english, english_grammar, family_names, scene_names
from prompts.color_names import ENGLISH_NAMES
from prompts.distractors import FOLDER
from prompts.tokenizer import LISTS

BEGINNINGS = 3020
"""Number of different beginnings of the words, each of which takes one token."""

ALWAYS = (
    "written", "word", "realistic", "says", "reading", "saying", "called", "store", "shop",
    "coffee", "sale", "photo", "picture", "image", "poster", "sign", "please", "make", "create",
    "design",
)  # fmt: skip
"""Words of prompts that are tokens whatever the count says."""


def _texts(value: object) -> list[str]:
    """All strings inside nested tuples and dictionaries."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [text for part in value for text in _texts(part)] if isinstance(value, tuple) else []


def count(assets: Path) -> list[str]:
    """The words by their frequency in prompts, which is estimated from how often each list of the
    grammar is drawn from, and from the gathered sentences."""
    frequency: Counter[str] = Counter()

    def add(texts: list[str], weight: float) -> None:
        """Words of the texts, of which one is drawn `weight` times per prompt."""
        for text in texts:
            for word in re.findall(r"(?<![\w'])[a-z]{2,}\b", re.sub(r"\{.\}", "", text)):
                frequency[word] += weight / len(texts)

    for module in (english, english_grammar, family_names, scene_names):
        for value in vars(module).values():
            add(_texts(value), 0.5) if isinstance(value, tuple) else None
            if isinstance(value, dict):
                for part in value.values():
                    add(_texts(part), 0.1) if isinstance(part, tuple) else None
    for names in ENGLISH_NAMES.values():
        add(list(names), 0.03)
    for value in vars(distractor_words).values():
        add(_texts(value), 0.1) if isinstance(value, tuple) else None
    for file, weight in (("sentences.txt", 0.4), ("phrases.txt", 0.1)):
        add((assets / FOLDER / file).read_text("utf-8").splitlines(), weight)
    return _most_useful(frequency)


def _most_useful(frequency: Counter[str]) -> list[str]:
    """The words that are most frequent for each beginning that they add, until there are
    `BEGINNINGS` of them."""
    known = {word[:end] for word in ALWAYS for end in range(1, len(word) + 1)}

    def gain(word: str) -> tuple[float, list[str]]:
        new = [word[:end] for end in range(1, len(word) + 1) if word[:end] not in known]
        return frequency[word] / max(len(new), 0.5), new

    queue = [(-gain(word)[0], word) for word in frequency if word not in ALWAYS]
    heapify(queue)
    found = list(ALWAYS)
    while queue and len(known) < BEGINNINGS:
        _, word = heappop(queue)
        value, new = gain(word)
        if queue and -queue[0][0] > value:
            heappush(queue, (-value, word))
            continue
        known.update(new)
        found.append(word)
    return found


if __name__ == "__main__":
    words = count(Path(sys.argv[1]))
    (LISTS / "words.txt").write_text("\n".join(words) + "\n", "utf-8")
