"""Sentences in all languages of the pack.

The English sentence is written where it is used. It is an ordinary ``str``, so that code which
knows nothing of languages can use it. Its translations are in tables that have the English sentence
as key.
"""

from __future__ import annotations

from .chinese import CHINESE

LANGUAGES = ("en", "zh")

MAX_SHOWN = 400
"""Default limit, in characters, for text from outside that a sentence quotes."""


class Sentence(str):
    """An English string that also carries its Chinese translation."""

    chinese: str | None
    about: dict[str, object]

    def __new__(cls, english: str, chinese: str | None, about: dict[str, object]) -> Sentence:
        """Fills ``about`` into both patterns; without ``chinese`` the sentence stays English."""
        sentence = super().__new__(cls, english.format(**about))
        sentence.chinese, sentence.about = chinese, about
        return sentence


def say(english: str, **about: object) -> Sentence:
    """Builds a translatable sentence from the pattern ``english`` and its fields."""
    return Sentence(english, CHINESE.get(english), about)


def translated(text: str, language: str) -> str:
    """Returns ``text`` in ``language``, with all sentences among its fields translated too.

    Text that is not a :class:`Sentence`, or has no translation, is returned unchanged.
    """
    if language != "zh" or not isinstance(text, Sentence) or text.chinese is None:
        return text
    about = {
        name: translated(value, language) if isinstance(value, str) else value
        for name, value in text.about.items()
    }
    return text.chinese.format(**about)


def printable(text: object, limit: int = MAX_SHOWN) -> str:
    """Makes text from outside safe to quote: bounded in length, without control characters.

    Line breaks become spaces. Other control characters and unpaired surrogates become escape
    sequences. Text that was cut ends in an ellipsis.
    """
    words = str(text)
    cut = words[: limit + 1]
    lines = " ".join(cut.split())
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in lines)
    return safe if len(words) <= limit and len(safe) <= limit else safe[:limit] + "…"
