"""Errors as the worker reports them: a code, a sentence and a hint."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

from .bincode import OpenEnum


class ErrorCode(enum.IntEnum):
    """What kind of thing went wrong. A code keeps its number and meaning for ever."""

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


@dataclass
class WireError:
    """An error as a person should see it: one sentence and, unless empty, a hint."""

    code: Annotated[int, OpenEnum(ErrorCode)]
    """An :class:`ErrorCode`, or the number of one that a newer worker knows."""
    message: str
    hint: str
