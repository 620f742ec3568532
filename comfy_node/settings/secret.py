"""Texts that nobody may read by accident: tokens and passwords."""

from __future__ import annotations

HIDDEN = "***"
"""What stands for a secret wherever it would be printed."""


class Secret:
    """A text with no printable form: only :meth:`reveal` gives it away.

    It is not a ``str``, so that neither a log, an error, ``json`` nor ``pickle`` can
    write it out.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def of(cls, text: str | Secret | None) -> Secret | None:
        """The secret, or ``None`` for a text that is missing or blank."""
        if isinstance(text, Secret) or text is None:
            return text
        return cls(text.strip()) if text.strip() else None

    def reveal(self) -> str:
        """The text itself, for the one place that sends it."""
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _: object) -> Secret:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be written out")
