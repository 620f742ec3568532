"""How a client's jobs get on: what a status shows beside what the worker says."""

from __future__ import annotations

import time

from .. import wire

_NEWEST = 0.3
"""The weight of the newest step in the mean."""


class Pace:
    """The newest job's place in the queue or its step, and the seconds a step takes."""

    def __init__(self) -> None:
        self.seconds_per_step: float | None = None
        self._clear()

    def _clear(self) -> None:
        self.position: int | None = None
        self.step = 0
        self.steps = 0
        self._job = b""
        self._last = 0.0

    def see(self, event: object) -> None:
        """Takes what a job reports."""
        if isinstance(event, wire.Queued):
            self._clear()
            self._job, self.position = event.job, event.position
        elif isinstance(event, wire.Started):
            self._clear()
            self._job, self._last = event.job, time.monotonic()
        elif isinstance(event, wire.Progress):
            now = time.monotonic()
            if event.job == self._job and event.step > self.step > 0:
                self._take((now - self._last) / (event.step - self.step))
            self._job, self._last, self.position = event.job, now, None
            self.step, self.steps = event.step, event.total

    def _take(self, seconds: float) -> None:
        before = self.seconds_per_step
        mean = seconds if before is None else before + _NEWEST * (seconds - before)
        # A worker that was restarted on another device is not averaged with the old one.
        known = before is not None and 0.2 < seconds / max(before, 1e-6) < 5
        self.seconds_per_step = mean if known else seconds

    def end(self) -> None:
        """The job is over; how long its steps took stays."""
        self._clear()
