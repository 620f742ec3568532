"""The error that a person reads on a node."""

from __future__ import annotations

from . import page_language
from .sentences import translated

SHOWN_MODULE = "ovis_worker"
"""The module name of the pack's errors.

ComfyUI shows an error's qualified class name before its sentence; the real module name contains the
whole path of the pack.
"""


class WorkerError(Exception):
    """One sentence and, if something can be done about it, a hint.

    ``str()`` gives the text in the language of the page that the running node belongs to. ``code``
    is the worker's error code (a plain number if this pack does not know the code), or ``None`` if
    the error was raised in the pack. ``retry_after``: the seconds after which the same request may
    succeed, or ``None`` if waiting does not help.
    """

    __module__ = SHOWN_MODULE

    def __init__(
        self,
        message: str,
        hint: str = "",
        code: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint
        self.code = code
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.text(page_language.current())

    def text(self, language: str) -> str:
        """Sentence and hint in ``language``.

        Text that did not come from :func:`say` is not translated.
        """
        parts = (self.message, self.hint)
        return "\n".join(translated(part, language) for part in parts if part)
