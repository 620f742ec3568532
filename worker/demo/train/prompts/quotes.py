"""Quotation marks around the words that a poster shows."""

import re

from prompts.pick import Pick

# Opening and closing mark, share in English and in Chinese prompts.
QUOTES = (
    ('"', '"', 38, 14), ("“", "”", 17, 42), ("'", "'", 14, 4), ("\u2018", "’", 14, 14),
    ("「", "」", 4, 14), ("『", "』", 3, 8), ("«", "»", 5, 2), ("« ", " »", 2, 1), ("„", "“", 2, 0),
)  # fmt: skip
_ENGLISH = [(left, right) for left, right, share, _ in QUOTES for _ in range(share)]
_CHINESE = [(left, right) for left, right, _, share in QUOTES for _ in range(share)]

MARKS = frozenset('"“”\u2018「」『』«»„')
"""Marks that a prompt has nowhere but around quoted words. ' and ’ are apostrophes as well."""

UNQUOTED = re.compile(r"[\w &%$€#@+/-]+")
"""Words that can stand in a prompt without quotes, up to a comma or a full stop."""

OPENING = tuple(dict.fromkeys(left.strip() for left, *_ in QUOTES))
CLOSING = tuple(dict.fromkeys(right.strip() for _, right, *_ in QUOTES))


def quoted(pick: Pick, texts: list[str], chinese: bool) -> list[str]:
    """The texts in quotes, all of the same kind most of the time. Apostrophes are written ' or ’,
    whatever the poster draws."""
    kinds = _CHINESE if chinese else _ENGLISH
    left, right = pick(kinds)
    found = []
    for text in texts:
        if pick.chance(0.05):
            left, right = pick(kinds)
        if ("'" in text or "’" in text) and pick.chance(0.5):
            text = text.replace("’", "'") if "’" in text else text.replace("'", "’")
        found.append(f"{left}{text}{right}")
    return found
