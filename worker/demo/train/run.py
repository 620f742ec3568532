"""What both stages share: the clock, the log, saved state."""

import json
import os
import time
from pathlib import Path
from typing import Any

import torch


class Clock:
    """How far a stage is: this call may run `minutes`, the stage takes `total` in all.

    Time is counted over calls, so that the schedule of a stage goes on where the
    last call left it.
    """

    def __init__(self, minutes: float, total: float | None, before: float = 0.0):
        self.started = time.monotonic()
        self.limit = 60 * minutes
        self.total = 60 * (total or minutes)
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


def save(file: Path, state: dict) -> None:
    """Whole or not at all."""
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, file)


def rate_at(step: int, progress: float, peak: float, warmup: int, decay_from: float) -> float:
    """The learning rate: up over `warmup` steps, flat, then linearly to 0 at the end."""
    decay = 1.0 if progress < decay_from else (1 - progress) / (1 - decay_from)
    return peak * min(1.0, (step + 1) / warmup) * max(decay, 0.002)
