#!/usr/bin/env python3
"""Writes the held-out lists that are made by a program. They are fixed: this file tells how they
came about, and is not run again unless a list is to change.

    make_lists.py WORDS [LIST ...]

WORDS is a file of English words (Debian: /usr/share/dict/american-english). The lists `english`,
`chinese`, `two_lines` and the first 30 rows of `new_sizes` are those of the first model, except two
rude words. Most of `free` and `no_text` is written by hand; existing rows of these three are kept,
and only the missing ones are added.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":  # started as a program, not imported from the rooms
    sys.path.insert(0, str(Path(__file__).parents[1]))

from judging import free_wording, lists
from posters.colors import COLORS, contrast
from posters.families import CHARACTERS
from posters.poster import Phrase, Poster
from posters.typesetting import set_lines

LEAST_CONTRAST = 3.5
"""Least contrast (WCAG) between the two colours of a prompt."""

UNFIT = re.compile(
    "harlot|whore|rape|rapi(st|ng)|slut|nazi|fuck|shit|bitch|cunt|nigg|fag|porn|sex|penis|vagin|titt"
    "|dildo|negro|kike|queer|bastard|piss|crap|bawd|incest|lynch|genocid|suicid|murder|bimbo|pimp"
)
"""Dictionary words with these parts are not used."""

SEED = 20261126


class Maker:
    """Makes the rows of each list, with random numbers of its own for each."""

    def __init__(self, words: Path):
        taken = {
            word
            for items in (
                lists.read("english"),
                lists.read("two_lines"),
                lists.read("new_sizes")[:30],
            )
            for item in items
            for phrase in item.poster.phrases
            for word in phrase.text.lower().split()
        }
        found = {w for w in words.read_text("utf-8").split() if w.isascii() and w.isalpha()}
        free = sorted(w for w in found if w.islower() and 4 <= len(w) <= 9)
        free = [w for w in free if w not in taken and not UNFIT.search(w)]
        np.random.default_rng(SEED).shuffle(free)
        self.words = free

    def word(self, longest: int, rng: np.random.Generator) -> str:
        """The next word of at most so many letters, in any case; none is used twice."""
        number = next(n for n, word in enumerate(self.words) if len(word) <= longest)
        word = self.words.pop(number)
        return (word.upper(), word.upper(), word.title(), word)[rng.integers(4)]

    def make(self, name: str) -> list[dict]:
        """The rows of a list."""
        # Each list draws from its own part of the words, so that it does not depend on the others.
        rng = np.random.default_rng((SEED, lists.LISTS.index(name)))
        part = lists.LISTS.index(name)
        everything, self.words = self.words, self.words[part :: len(lists.LISTS)]
        try:
            return getattr(self, name)(rng)
        finally:
            self.words = everything

    def thousand(self, rng: np.random.Generator) -> list[dict]:
        """100 Chinese headlines of 2 to 5 characters, in which no character comes twice."""
        order = [CHARACTERS[i] for i in rng.permutation(len(CHARACTERS))]
        rows = []
        for number in range(100):
            text = "".join(order.pop() for _ in range(2 + number % 4))
            rows.append(self._row(rng, [text], chinese=number % 3 > 0))
        return rows

    def three_lines(self, rng: np.random.Generator) -> list[dict]:
        """40 headlines of three words that need three lines."""
        return [self._row(rng, [self._three(rng)]) for _ in range(40)]

    def new_sizes(self, rng: np.random.Generator) -> list[dict]:
        """The 30 rows of the first model, and 5 for each of the other new sizes."""
        rows = _kept("new_sizes")[:30]
        for size in lists.NEW_SIZES[3:]:
            for _ in range(5):
                row = self._row(rng, [self.word(5 if size[0] < 160 else 8, rng)], size=size)
                rows.append({**row, "width": size[0], "height": size[1]})
        return rows

    def no_text(self, rng: np.random.Generator) -> list[dict]:
        """100 prompts without quoted text, the first ones by hand."""
        rows = _kept("no_text")
        known = {row["prompt"] for row in rows}
        while len(rows) < 100:
            prompt = free_wording.without_text(rng, chinese=len(rows) % 5 < 2)
            if prompt not in known:
                known.add(prompt)
                rows.append({"prompt": prompt})
        return rows

    def colors(self, rng: np.random.Generator) -> list[dict]:
        """100 prompts in which every colour is an ink and a ground at least once."""
        keys = list(COLORS)
        inks = [*rng.permutation(keys), *rng.permutation(keys)][:50]
        grounds = [*rng.permutation(keys), *rng.permutation(keys)]
        rows = [self._row(rng, [self.word(7, rng)], ink=str(key)) for key in [*keys, *inks]]
        del rows[100:]
        for row in rows:  # the ground that was used least so far
            fits = [g for g in grounds if contrast(g, row["ink"]) >= LEAST_CONTRAST]
            ground = str(fits[0])
            grounds.remove(ground)
            grounds.append(ground)
            text = row["phrases"][0]["text"]
            row["ground"] = ground
            row["prompt"] = free_wording.prompt(rng, [text], row["ink"], ground)
        return rows

    def text_heavy(self, rng: np.random.Generator) -> list[dict]:
        """60 prompts with two phrases of one or two words each, and 40 with three lines."""
        rows = []
        for number in range(60):
            counts = (2, 1 + number % 2) if number % 4 else (1, 2)
            texts = [" ".join(self.word(7, rng) for _ in range(count)) for count in counts]
            if number % 5 == 4:
                picks = rng.choice(len(CHARACTERS), 7, replace=False)
                chars = "".join(CHARACTERS[i] for i in picks)
                texts = [chars[:4], chars[4:]]
            rows.append(self._row(rng, texts, chinese=number % 5 == 4))
        return rows + [self._row(rng, [self._three(rng)]) for _ in range(40)]

    def free(self, rng: np.random.Generator) -> list[dict]:
        """The prompts by hand, and others up to 200 in the wording of `free_wording`."""
        rows = _kept("free")
        phrases = [*free_wording.PHRASES, *free_wording.CHINESE_PHRASES]
        for text in phrases[: 200 - len(rows)] if len(rows) < 200 else ():
            chinese = text in free_wording.CHINESE_PHRASES
            row = self._row(rng, [text], chinese=chinese)
            if rng.random() < 0.4:
                row = {"prompt": free_wording.prompt(rng, [text], chinese=chinese)}
                row["phrases"] = [{"text": text}]
            rows.append(row)
        return rows

    def _three(self, rng: np.random.Generator) -> str:
        """Three words that are set on three lines."""
        while True:
            text = " ".join(self.word(8, rng) for _ in range(3))
            layout = set_lines(Poster("", (Phrase(text),)))
            if layout and len(layout.blocks[0].lines) == 3:
                return text

    def _row(self, rng, texts, chinese=False, ink=None, size=(256, 256)) -> dict:
        """A row with these phrases in random colours of enough contrast."""
        keys = list(free_wording.CHINESE_COLORS if chinese else COLORS)
        while True:
            first = ink or str(rng.choice(keys))
            ground = str(rng.choice(keys))
            if contrast(first, ground) >= LEAST_CONTRAST:
                break
        places = ("top", "bottom") if len(texts) == 2 else (None,)
        phrases = [{"text": t, "position": p} for t, p in zip(texts, places, strict=True)]
        row = {
            "prompt": free_wording.prompt(rng, texts, first, ground, chinese),
            "phrases": phrases, "ink": first, "ground": ground,
        }  # fmt: skip
        poster = lists.item(
            {**dict.fromkeys(lists.FIELDS), **row, "seed": 0, "width": size[0], "height": size[1]}
        ).poster
        assert set_lines(poster), f"{texts} do not fit {size}"
        return row


def _kept(name: str) -> list[dict]:
    file = lists.HELD_OUT / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


MADE = ("thousand", "three_lines", "new_sizes", "no_text", "colors", "text_heavy", "free")

if __name__ == "__main__":
    maker = Maker(Path(sys.argv[1]))
    for which in sys.argv[2:] or MADE:
        made = maker.make(which)
        lists.write(which, [{**row, "seed": number} for number, row in enumerate(made)])
        print(f"{which}: {len(made)}")
