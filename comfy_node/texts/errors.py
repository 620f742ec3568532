"""What a person reads on a node when its job did not work."""

from __future__ import annotations

from . import reader
from .sentences import translated

# ComfyUI shows an error's kind before its sentence; the module's own name is a whole path there.
SHOWN_MODULE = "ovis_worker"


class WorkerError(Exception):
    """One sentence and, when there is something to do about it, a hint.

    As a string it is in the language of whoever the running node belongs to.
    ``code`` is the worker's error code, a plain number where this pack does not know it,
    or ``None`` when the client says it.
    """

    __module__ = SHOWN_MODULE

    def __init__(self, message: str, hint: str = "", code: int | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        return self.text(reader.language())

    def text(self, language: str) -> str:
        """Sentence and hint in a language, where they are the pack's own."""
        parts = (self.message, self.hint)
        return "\n".join(translated(part, language) for part in parts if part)
