"""Random headlines: words, letters, digits and signs, Chinese; never a held-out one."""

import json
import string
from functools import cache
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent

SIGNS = "%!?&-"
LATIN = string.ascii_letters + string.digits + SIGNS
CHARACTERS = "".join((HERE / "lists" / "characters.txt").read_text("utf-8").split())
PHRASES = (HERE / "lists" / "phrases.txt").read_text("utf-8").split()

LONGEST_WORD = 10
LONGEST_CHINESE = 4


@cache
def held_out() -> frozenset[str]:
    """All held-out lines in lower case. The training data never contains them."""
    lines = set()
    for file in sorted((HERE / "held_out").glob("*.jsonl")):
        for row in file.read_text("utf-8").splitlines():
            lines.update(line.lower() for line in json.loads(row)["lines"])
    return frozenset(lines)


@cache
def word_list(path: Path) -> tuple[str, ...]:
    """Lower-case English words of at most `LONGEST_WORD` letters, without the held-out ones."""
    words = {word for word in path.read_text("utf-8").split() if word.isascii()}
    words = {word for word in words if word.isalpha() and word.islower()}
    return tuple(sorted(w for w in words if len(w) <= LONGEST_WORD and w not in held_out()))


def any_case(rng: np.random.Generator, word: str) -> str:
    """The word in upper case (half of the time, as on posters), title case or lower case."""
    choice = rng.random()
    return word.upper() if choice < 0.5 else word.title() if choice < 0.75 else word.lower()


def misspelt(rng: np.random.Generator, line: str) -> str:
    """The line with one character replaced by a random one of its kind, dropped or doubled."""
    place = int(rng.integers(len(line)))
    old = line[place]
    kinds = (string.ascii_uppercase, string.ascii_lowercase, string.digits, SIGNS, CHARACTERS)
    kind = next(kind for kind in kinds if old in kind)
    new = kind[rng.integers(len(kind))]
    change = rng.random()
    if change < 0.15 and len(line) > 1:
        new = ""
    elif change < 0.3:
        new = 2 * old
    return line[:place] + new + line[place + 1 :]


def _word(rng: np.random.Generator, longest: int, words: tuple[str, ...]) -> str:
    while True:
        word = words[rng.integers(len(words))]
        if len(word) <= longest:
            return any_case(rng, word)


def _random(rng: np.random.Generator, longest: int) -> str:
    length = int(rng.integers(1, longest + 1))
    letters = [string.ascii_lowercase[i] for i in rng.integers(26, size=length)]
    return any_case(rng, "".join(letters))


def _symbols(rng: np.random.Generator, longest: int, words: tuple[str, ...]) -> str:
    kind = rng.integers(6)
    if kind == 0:
        text = f"{rng.integers(1, 100)}%"
    elif kind == 1:
        text = str(rng.integers(10 ** int(rng.integers(1, min(longest, 6) + 1))))
    elif kind == 2:
        text = _word(rng, longest - 1, words) + "!?"[rng.integers(2)]
    elif kind == 3:
        left, right = (string.ascii_uppercase[i] for i in rng.integers(26, size=2))
        text = f"{left}{'&-'[rng.integers(2)]}{right}"
    elif kind == 4:
        text = f"{_word(rng, max(longest - 4, 1), words)}-{rng.integers(1, 100)}"
    else:
        length = int(rng.integers(2, min(longest, 8) + 1))
        text = "".join(LATIN[i] for i in rng.integers(len(LATIN), size=length))
    return text[:longest]


def _chinese(rng: np.random.Generator, longest: int) -> str:
    if rng.random() < 0.15:
        phrase = PHRASES[rng.integers(len(PHRASES))]
        if len(phrase) <= longest:
            return phrase
    # Longer headlines are harder to learn and as common on posters, so they are drawn more often.
    length = 1 + int(rng.choice(longest, p=np.arange(1, longest + 1) / sum(range(longest + 1))))
    return "".join(CHARACTERS[i] for i in rng.integers(len(CHARACTERS), size=length))


def line(rng: np.random.Generator, kind: str, longest: int, words: tuple[str, ...]) -> str:
    """One line of a headline that is not held out."""
    while True:
        if kind == "words":
            text = _word(rng, longest, words)
        elif kind == "random":
            text = _random(rng, longest)
        elif kind == "symbols":
            text = _symbols(rng, longest, words)
        else:
            text = _chinese(rng, longest)
        if text.lower() not in held_out():
            return text
