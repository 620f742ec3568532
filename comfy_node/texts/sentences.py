"""What the pack says, in the languages that it speaks.

A sentence is written in English where it is said, and is an English string to all
who treat it as one. Its other languages are in a table by the English.
"""

from __future__ import annotations

from .chinese import CHINESE

LANGUAGES = ("en", "zh")

MOST_SHOWN = 400
"""The most characters of somebody else's text in a sentence of ours."""


class Sentence(str):
    """English words that know what they are in Chinese."""

    chinese: str | None
    about: dict[str, object]

    def __new__(cls, english: str, chinese: str | None, about: dict[str, object]) -> Sentence:
        """Both are patterns, which ``about`` is put into; without ``chinese`` it stays English."""
        sentence = super().__new__(cls, english.format(**about))
        sentence.chinese, sentence.about = chinese, about
        return sentence


def say(english: str, **about: object) -> Sentence:
    """The sentence ``english``, a pattern that ``about`` is put into."""
    return Sentence(english, CHINESE.get(english), about)


def translated(text: str, language: str) -> str:
    """A sentence in a language, with all sentences in it; any other text as it is."""
    if language != "zh" or not isinstance(text, Sentence) or text.chinese is None:
        return text
    about = {
        name: translated(value, language) if isinstance(value, str) else value
        for name, value in text.about.items()
    }
    return text.chinese.format(**about)


def shown(text: object, most: int = MOST_SHOWN) -> str:
    """Somebody else's words as they may stand in a sentence: bounded, nothing invisible.

    Line breaks become spaces, other control characters and half pairs of surrogates
    their escapes. What is cut ends in an ellipsis.
    """
    words = str(text)
    cut = words[: most + 1]
    lines = " ".join(cut.split())
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in lines)
    return safe if len(words) <= most and len(safe) <= most else safe[:most] + "…"
