"""Memory of processes, and the few statistics that the reports need."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Resident memory of a process (Linux). Raises :class:`OSError` if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (IndexError, ProcessLookupError) as error:
        raise FileNotFoundError(f"process {pid} has ended") from error


def mebibytes(size: float) -> float:
    """Bytes as MiB."""
    return size / (1 << 20)


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """The slope of the line that fits the points best, by least squares."""
    middle_x, middle_y = fmean(xs), fmean(ys)
    over = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True))
    return over / sum((x - middle_x) ** 2 for x in xs)


def growth(xs: Sequence[float], ys: Sequence[float]) -> float:
    """By what share of its mean the fitted line rises from the first point to the last."""
    return slope(xs, ys) * (xs[-1] - xs[0]) / fmean(ys)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
