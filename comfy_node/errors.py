"""What a person reads on a node when its job did not work."""

from __future__ import annotations

from . import reader, wire
from .chinese import WORKER_SAYS
from .texts import Sentence, shown, translated

# ComfyUI shows an error's kind before its sentence; the module's own name is a whole path there.
_SHOWN_MODULE = "ovis_worker"

MOST_WORDS = 2000
"""The most characters of a worker's own sentence, and of its hint."""


class WorkerError(Exception):
    """One sentence and, when there is something to do about it, a hint.

    As a string it is in the language of whoever the running node belongs to.
    ``code`` is the worker's error code, a plain number where this pack does not know it,
    or ``None`` when the client says it.
    """

    __module__ = _SHOWN_MODULE

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

    @classmethod
    def from_wire(cls, error: wire.WireError) -> WorkerError:
        """The error as the worker worded it; in Chinese, after what kind of error it is.

        What the worker says is bounded, and shows nothing that a terminal or a page obeys.
        A code of a newer worker is kept as its number.
        """
        about = {"words": shown(error.message, MOST_WORDS)}
        message = Sentence("{words}", WORKER_SAYS.get(error.code), about)
        return cls(message, shown(error.hint, MOST_WORDS), error.code)


class ConnectionLost(WorkerError):
    """The job did not end before its connection did.

    ``announced``: the worker said that it goes away. ``started_at``: when the job had
    the device, by ``time.monotonic``, or ``None`` where it had not come to that.
    """

    __module__ = _SHOWN_MODULE

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        announced: bool = False,
        started_at: float | None = None,
    ) -> None:
        super().__init__(message, hint, wire.ErrorCode.SHUTTING_DOWN if announced else None)
        self.announced = announced
        self.started_at = started_at


class NoWorker(WorkerError):
    """Nothing answers at the worker's address."""

    __module__ = _SHOWN_MODULE


class StartFailed(NoWorker):
    """A worker was started from here, and did not come up. Waiting would not help."""

    __module__ = _SHOWN_MODULE
