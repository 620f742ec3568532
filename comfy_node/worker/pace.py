"""Measures the progress of a client's jobs, for the status that the browser shows."""

from __future__ import annotations

import time

from .. import wire

_NEWEST_WEIGHT = 0.3
"""The weight of the newest step in the moving average."""


class Pace:
    """The newest job's queue position or step, and the average duration of a step in seconds."""

    def __init__(self) -> None:
        self.seconds_per_step: float | None = None
        self._clear()

    def _clear(self) -> None:
        self.position: int | None = None
        self.step = 0
        self.steps = 0
        self._job = b""
        self._last = 0.0

    def observe(self, event: object) -> None:
        """Takes an event of a job into account."""
        if isinstance(event, wire.Queued):
            self._clear()
            self._job, self.position = event.job, event.position
        elif isinstance(event, wire.Started):
            self._clear()
            self._job, self._last = event.job, time.monotonic()
        elif isinstance(event, wire.Progress):
            now = time.monotonic()
            if event.job == self._job and event.step > self.step > 0:
                self._average((now - self._last) / (event.step - self.step))
            self._job, self._last, self.position = event.job, now, None
            self.step, self.steps = event.step, event.total

    def _average(self, seconds: float) -> None:
        before = self.seconds_per_step
        average = seconds if before is None else before + _NEWEST_WEIGHT * (seconds - before)
        # A very different duration means another device or model: start a new average.
        is_similar = before is not None and 0.2 < seconds / max(before, 1e-6) < 5
        self.seconds_per_step = average if is_similar else seconds

    def end(self) -> None:
        """Forgets the job, which has ended; the duration of a step is kept."""
        self._clear()
