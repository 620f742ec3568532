"""What both stages share: the clock, the log, saved state."""

import json
import os
import time
from pathlib import Path
from typing import Any

import torch


class Clock:
    """How far a stage is: this call may run `minutes`, the stage takes `total` in all.

    A `deadline` in Unix time shortens the call. Time is counted over calls, so that the
    schedule of a stage goes on where the last call left it.
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
        """Time spent in the stage, over all calls."""
        return self.before + time.monotonic() - self.started

    @property
    def progress(self) -> float:
        return min(self.seconds / self.total, 1.0)

    @property
    def over(self) -> bool:
        return time.monotonic() - self.started >= self.limit or self.seconds >= self.total


class Log:
    """Lines of JSON in a file, and the same shorter on the terminal."""

    def __init__(self, file: Path):
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file = file

    def __call__(self, **values: Any) -> None:
        values = {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}
        with self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(values) + "\n")
        print(" ".join(f"{name} {value}" for name, value in values.items()), flush=True)


def wait(step: int) -> None:
    """Now and then lets the device catch up, so that the clock means something."""
    if step % 10 == 0 and torch.cuda.is_available():
        torch.cuda.synchronize()


def save(file: Path, state: dict) -> None:
    """Whole or not at all."""
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, file)


def rate_at(step: int, progress: float, peak: float, warmup: int, decay_from: float) -> float:
    """The learning rate: up over `warmup` steps, flat, then linearly to 0 at the end."""
    decay = 1.0 if progress < decay_from else (1 - progress) / (1 - decay_from)
    return peak * min(1.0, (step + 1) / warmup) * max(decay, 0.002)
