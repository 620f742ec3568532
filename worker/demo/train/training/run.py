"""What both training stages share: time limits, the log, saving state, the learning rate."""

import json
import os
import time
from pathlib import Path
from typing import Any

import torch


class Clock:
    """Measures the progress of a stage. This call may run for `minutes`; the stage takes `total`
    minutes over all calls.

    A `deadline` in Unix time can shorten the call. `before` is the time of earlier calls, so that
    the learning rate schedule continues where the last call ended.
    """

    def __init__(
        self,
        minutes: float,
        total: float | None,
        before: float = 0.0,
        deadline: float | None = None,
    ):
        self.started = time.monotonic()
        self.limit = 60 * minutes
        if deadline:
            self.limit = max(0.0, min(self.limit, deadline - time.time()))
        self.total = 60 * total if total else self.limit
        self.before = before

    @property
    def seconds(self) -> float:
        """Seconds spent in the stage, over all calls."""
        return self.before + time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """Share of the stage that is done, 0 to 1."""
        return min(self.seconds / self.total, 1.0)

    @property
    def over(self) -> bool:
        """Whether this call or the stage has used up its time."""
        return time.monotonic() - self.started >= self.limit or self.seconds >= self.total


class Log:
    """Appends JSON objects to a file, one a line, and prints them to the terminal."""

    def __init__(self, file: Path):
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file = file

    def __call__(self, **values: Any) -> None:
        values = {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}
        with self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(values) + "\n")
        print(" ".join(f"{name} {value}" for name, value in values.items()), flush=True)


def wait(step: int) -> None:
    """Waits for the GPU every ten steps, so that the clock measures finished work."""
    if step % 10 == 0 and torch.cuda.is_available():
        torch.cuda.synchronize()


def save(file: Path, state: dict) -> None:
    """Writes atomically: to a temporary file that then replaces the target."""
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, file)


def rate_at(step: int, progress: float, peak: float, warmup: int, decay_from: float) -> float:
    """The learning rate: linear warm-up over `warmup` steps, constant, then a linear decay to
    0.2 % of the peak from progress `decay_from` to the end."""
    decay = 1.0 if progress < decay_from else (1 - progress) / (1 - decay_from)
    return peak * min(1.0, (step + 1) / warmup) * max(decay, 0.002)
