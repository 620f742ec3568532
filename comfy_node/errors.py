"""What a person reads on a node when its job did not work."""

from __future__ import annotations

from . import wire


class WorkerError(Exception):
    """One sentence and, when there is something to do about it, a hint.

    ``code`` is the worker's error code, or ``None`` when the client says it.
    """

    def __init__(self, message: str, hint: str = "", code: wire.ErrorCode | None = None) -> None:
        super().__init__(f"{message}\n{hint}" if hint else message)
        self.message = message
        self.hint = hint
        self.code = code

    @classmethod
    def from_wire(cls, error: wire.WireError) -> WorkerError:
        """The error as the worker worded it."""
        return cls(error.message, error.hint, error.code)


class ConnectionLost(WorkerError):
    """The socket ended before the job did. The job may be sent again."""


class NoWorker(WorkerError):
    """Nothing answers at the worker's address."""
