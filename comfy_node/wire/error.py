"""Errors as the worker reports them: a code, a sentence and a hint."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

from .bincode import F32, OpenEnum


class ErrorCode(enum.IntEnum):
    """The kind of an error. A code never changes its number or its meaning."""

    VERSION_MISMATCH = 0
    UNAUTHORIZED = 1
    BAD_MESSAGE = 2
    INVALID_REQUEST = 3
    QUEUE_FULL = 4
    MISSING_MODEL = 5
    OUT_OF_MEMORY = 6
    SHUTTING_DOWN = 7
    INTERNAL = 8
    UNKNOWN_JOB = 9
    CONFLICT = 10
    DEADLINE_EXCEEDED = 11
    FORBIDDEN = 12
    EXPIRED = 13
    UNSUPPORTED = 14


@dataclass
class WireError:
    """An error to be shown to a person: one sentence and a hint, which may be empty."""

    code: Annotated[int, OpenEnum(ErrorCode)]
    """An :class:`ErrorCode`, or the plain number of a code that only a newer worker knows."""
    message: str
    hint: str
    retry_after: F32 | None = None
    """Seconds after which the same request may succeed; ``None`` if waiting does not help."""
