"""Errors of a job, of a connection, and of starting a worker."""

from __future__ import annotations

from .. import wire
from ..texts import SHOWN_MODULE, Sentence, WorkerError, shown
from ..texts.chinese import WORKER_SAYS

MOST_WORDS = 2000
"""The most characters of a worker's own sentence, and of its hint."""


def from_wire(error: wire.WireError) -> WorkerError:
    """The error as the worker worded it; in Chinese, after what kind of error it is.

    What the worker says is bounded, and shows nothing that a terminal or a page obeys.
    A code of a newer worker is kept as its number.
    """
    about = {"words": shown(error.message, MOST_WORDS)}
    message = Sentence("{words}", WORKER_SAYS.get(error.code), about)
    return WorkerError(message, shown(error.hint, MOST_WORDS), error.code)


class ConnectionLost(WorkerError):
    """The job did not end before its connection did.

    ``announced``: the worker said that it goes away. ``started_at``: when the job had
    the device, by ``time.monotonic``, or ``None`` where it had not come to that.
    """

    __module__ = SHOWN_MODULE

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

    __module__ = SHOWN_MODULE


class StartFailed(NoWorker):
    """A worker was started from here, and did not come up. Waiting would not help."""

    __module__ = SHOWN_MODULE
