"""What a person reads on a node when its job did not work."""

from __future__ import annotations

from . import reader, wire
from .chinese import WORKER_SAYS
from .texts import Sentence, translated

# ComfyUI shows an error's kind before its sentence; the module's own name is a whole path there.
_SHOWN_MODULE = "ovis_worker"


class WorkerError(Exception):
    """One sentence and, when there is something to do about it, a hint.

    As a string it is in the language of whoever the running node belongs to.
    ``code`` is the worker's error code, or ``None`` when the client says it.
    """

    __module__ = _SHOWN_MODULE

    def __init__(self, message: str, hint: str = "", code: wire.ErrorCode | None = None) -> None:
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

    @classmethod
    def from_wire(cls, error: wire.WireError) -> WorkerError:
        """The error as the worker worded it; in Chinese, after what kind of error it is."""
        about = {"words": error.message}
        message = Sentence("{words}", WORKER_SAYS.get(error.code), about)
        return cls(message, error.hint, error.code)


class ConnectionLost(WorkerError):
    """The socket ended before the job did. The job may be sent again."""

    __module__ = _SHOWN_MODULE


class NoWorker(WorkerError):
    """Nothing answers at the worker's address."""

    __module__ = _SHOWN_MODULE
