"""A wrapper that keeps tokens and passwords from being displayed or logged by accident."""

from __future__ import annotations

HIDDEN = "***"
"""The placeholder for a secret in displayed text."""


class Secret:
    """A text that only :meth:`reveal` gives out.

    It is not a ``str``, so that logs, error messages, ``json`` and ``pickle`` cannot write it out.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def of(cls, text: str | Secret | None) -> Secret | None:
        """Wraps ``text``; returns ``None`` if it is missing or blank."""
        if isinstance(text, Secret) or text is None:
            return text
        return cls(text.strip()) if text.strip() else None

    def reveal(self) -> str:
        """The text itself. Only the code that sends it may call this."""
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
        raise TypeError("a secret cannot be pickled")
