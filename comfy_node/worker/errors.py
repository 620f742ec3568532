"""Errors of a job, of a connection, and of starting a worker."""

from __future__ import annotations

from .. import wire
from ..texts import SHOWN_MODULE, Sentence, WorkerError, printable
from ..texts.chinese import WORKER_SAYS

MAX_WORDS = 2000
"""Maximum length of a worker's own sentence and of its hint, in characters."""


def from_wire(error: wire.WireError) -> WorkerError:
    """Converts an error of the worker.

    The worker's words are English. In Chinese they follow a translation of the error's kind. They
    are shortened and escaped, because they come from outside. A code that only a newer worker knows
    is kept as a number.
    """
    about = {"words": printable(error.message, MAX_WORDS)}
    message = Sentence("{words}", WORKER_SAYS.get(error.code), about)
    return WorkerError(message, printable(error.hint, MAX_WORDS), error.code, error.retry_after)


class ConnectionLost(WorkerError):
    """The connection ended before its job did.

    ``announced``: the worker had announced its shutdown.
    """

    __module__ = SHOWN_MODULE

    def __init__(self, message: str, hint: str = "", *, announced: bool = False) -> None:
        super().__init__(message, hint, wire.ErrorCode.SHUTTING_DOWN if announced else None)
        self.announced = announced


class NoWorker(WorkerError):
    """Nothing answers at the worker's address."""

    __module__ = SHOWN_MODULE


class StartFailed(NoWorker):
    """A worker was started from here and did not come up; waiting would not help."""

    __module__ = SHOWN_MODULE
