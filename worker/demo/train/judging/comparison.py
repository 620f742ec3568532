"""Compares the words that were asked for with those that a reader found.

Upper and lower case are equal. Full-width letters and signs equal their narrow forms (Unicode
NFKC), and all quotes, apostrophes, hyphens and dashes of one kind equal each other. Marks above
letters are dropped (no poster asks for them, and a fleck of paper reads as one). Spaces are
ignored, since readers drop and insert them. Letters of one shape are equal (`SAME_SHAPE`): no
reader can tell them apart without their neighbours.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache
from itertools import permutations

SAME_SHAPE = ("O0〇○Oo", "Il|丨", "-一", "日曰", "口囗", "x×", "+十")
"""Groups of characters that have one shape in at least one common font. Case is kept here: a
capital I and a small l are alike, a capital L and a small i are not."""

QUOTES = str.maketrans(
    {**dict.fromkeys("‘’`´ʼ′", "'"), **dict.fromkeys("“”„″«»「」『』", '"')}
    | dict.fromkeys("‐‑‒–—―−ー", "-") | {"。": ".", "、": ","}
)  # fmt: skip

SPECKS = frozenset(".,'\"-:;~·_`^•*|")
"""Found words of these signs alone are specks of a surface, and not counted as other text."""


@dataclass(frozen=True)
class Comparison:
    """`words`: share of the wanted words that were read; `characters`: 1 - edits / letter;
    `extra`: number of words found that nobody asked for."""

    words: float
    characters: float
    extra: int


def normal(text: str) -> str:
    """The text without differences that do not count, except case and spaces."""
    text = unicodedata.normalize("NFKC", text.translate(QUOTES)).translate(QUOTES)
    parts = unicodedata.normalize("NFD", text)
    return "".join(part for part in parts if not unicodedata.combining(part))


@cache
def _groups() -> dict[str, set[int]]:
    groups: dict[str, set[int]] = {}
    for number, group in enumerate(SAME_SHAPE):
        for letter in group:
            groups.setdefault(letter, set()).add(number)
    return groups


def alike(a: str, b: str) -> bool:
    """Whether two characters count as equal."""
    if a.casefold() == b.casefold():
        return True
    groups = _groups()
    return bool(groups.get(a, set()) & groups.get(b, set()))


def compare(wanted: list[str], found: list[str]) -> Comparison:
    """Compares the wanted phrases with the found lines, both in reading order. Phrases that
    stand in another order are compared in theirs: the best order counts."""
    orders = permutations(wanted) if len(wanted) <= 3 else [wanted]
    results = [_compare(list(order), found) for order in orders]
    return max(results, key=lambda result: (result.words, result.characters, -result.extra))


def _compare(wanted: list[str], found: list[str]) -> Comparison:
    want = [word for phrase in wanted for word in normal(phrase).split()]
    have = [word for line in found for word in normal(line).split()]
    word_of = [number for number, word in enumerate(want) for _ in word]
    token_of = [number for number, word in enumerate(have) for _ in word]
    steps = align("".join(want), "".join(have))
    # A found word of which no letter is a wanted one's, right or wrong, is extra.
    touched = {token_of[j] for i, j, _ in steps if i is not None and j is not None}
    extra = [n for n, word in enumerate(have) if n not in touched and not set(word) <= SPECKS]
    wrong, edits = set(), 0
    for number, (i, j, same) in enumerate(steps):
        if same or (i is None and token_of[j] not in touched):
            continue
        edits += 1
        if i is not None:
            wrong.add(word_of[i])
            continue
        # A letter too many spoils the words of its token that it stands in or beside.
        for near in (steps[:number][::-1], steps[number + 1 :]):
            pair = next(((a, b) for a, b, _ in near if a is not None), None)
            if pair and (pair[1] is None or token_of[pair[1]] == token_of[j]):
                wrong.add(word_of[pair[0]])
    letters = len(word_of)
    return Comparison(
        words=1 - len(wrong) / len(want) if want else 1.0,
        characters=1 - min(edits, letters) / letters if letters else 1.0,
        extra=len(extra),
    )


def align(want: str, have: str) -> list[tuple[int | None, int | None, bool]]:
    """The alignment of two texts with the fewest edits (Levenshtein): pairs of places, None for a
    letter that the other text lacks, and whether they are alike."""
    rows, columns = len(want), len(have)
    costs = [list(range(columns + 1))]
    for i in range(1, rows + 1):
        row, above = [i], costs[-1]
        for j in range(1, columns + 1):
            change = above[j - 1] + (not alike(want[i - 1], have[j - 1]))
            row.append(min(change, above[j] + 1, row[-1] + 1))
        costs.append(row)
    steps = []
    i, j = rows, columns
    while i or j:
        same = bool(i and j) and alike(want[i - 1], have[j - 1])
        if i and j and costs[i][j] == costs[i - 1][j - 1] + (not same):
            i, j = i - 1, j - 1
            steps.append((i, j, same))
        elif j and costs[i][j] == costs[i][j - 1] + 1:
            j -= 1
            steps.append((None, j, False))
        else:
            i -= 1
            steps.append((i, None, False))
    return steps[::-1]
