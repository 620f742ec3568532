"""How a job is to be run, besides what it computes."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .bincode import F64, U32


class Priority(enum.IntEnum):
    """The order of one owner's waiting jobs; the owner's share of the device stays the same."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


@dataclass
class StateInterval:
    """How often a denoise job's state is sent; 0 turns an interval off."""

    steps: U32
    seconds: F64


@dataclass
class JobOptions:
    """How a job is to be run.

    ``deadline`` is in seconds from the submission. ``state`` asks for a denoise job's state.
    ``trace`` is a W3C ``traceparent``. ``model`` is one of the worker's models by name, or ``None``
    for the default; another model makes it another job.
    """

    priority: Priority = Priority.NORMAL
    deadline: F64 | None = None
    state: StateInterval | None = None
    trace: str | None = None
    model: str | None = None
