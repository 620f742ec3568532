"""A contact sheet: which images it has, and how they lie on the page."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..texts import WorkerError, say, shown
from . import captions

MOST_CELLS = 64
MOST_SEED = 0xFFFFFFFFFFFFFFFF
MOST_STEPS = 100
LEAST_CFG, MOST_CFG = 1.0, 20.0
AXES = ("seeds", "steps", "cfg")
MOST_SIDE = 16384
"""Most pixels each way of a page."""
MOST_DIGITS = 30
_RANGE = re.compile(rf"(\d{{1,{MOST_DIGITS}}})\s*[-–…]\s*(\d{{1,{MOST_DIGITS}}})")
_SEPARATORS = re.compile(r"[,，;；、\n]+")


@dataclass(frozen=True)
class Cell:
    """One image of the sheet."""

    seed: int
    steps: int
    cfg: float

    def part(self, axis: str) -> str:
        """One of its settings in words."""
        return {
            "seeds": f"seed {self.seed}",
            "steps": f"{self.steps} steps" if self.steps != 1 else "1 step",
            "cfg": f"cfg {self.cfg:g}",
        }[axis]


@dataclass(frozen=True)
class Plan:
    """The cells by rows, and the words beside and above them."""

    rows: list[list[Cell]]
    row_labels: list[str]
    column_labels: list[str]

    @property
    def cells(self) -> list[Cell]:
        """All of them, as they are read."""
        return [cell for row in self.rows for cell in row]


def plan(seeds: str, steps: str, cfg: str, columns: str) -> Plan:
    """Every combination; ``columns`` is the axis that runs from left to right.

    Raises :class:`WorkerError` for lists that are not understood or too long.
    """
    values = {
        "seeds": _whole("seeds", seeds, 0, MOST_SEED),
        "steps": _whole("steps", steps, 1, MOST_STEPS),
        "cfg": _numbers("cfg", cfg, LEAST_CFG, MOST_CFG),
    }
    count = int(np.prod([len(one) for one in values.values()], dtype=object))
    if count > MOST_CELLS:
        raise WorkerError(
            say(
                "The contact sheet would have {count} images, the most is {most}.",
                count=count,
                most=MOST_CELLS,
            ),
            say("Shorten one of the lists, or make a second sheet."),
        )
    downwards = [axis for axis in AXES if axis != columns]
    rows = []
    for down in itertools.product(*(values[axis] for axis in downwards)):
        row = []
        for across in values[columns]:
            chosen = {columns: across, **dict(zip(downwards, down, strict=True))}
            row.append(Cell(chosen["seeds"], chosen["steps"], chosen["cfg"]))
        rows.append(row)
    row_labels = ["\n".join(row[0].part(axis) for axis in downwards) for row in rows]
    return Plan(rows, row_labels, [cell.part(columns) for cell in rows[0]])


def _pieces(name: str, text: str) -> list[str]:
    pieces = [piece.strip() for piece in _SEPARATORS.split(text) if piece.strip()]
    if not pieces:
        raise WorkerError(
            say("The list of {name} is empty.", name=name),
            say("Write numbers such as: 0, 1, 2."),
        )
    return pieces


def _whole(name: str, text: str, least: int, most: int) -> list[int]:
    numbers: list[int] = []
    for piece in _pieces(name, text):
        span = _RANGE.fullmatch(piece)
        if span:
            first, last = int(span[1]), int(span[2])
            # Only as many as it takes to be too many.
            numbers += range(first, min(last, first + MOST_CELLS) + 1)
        elif piece.isdecimal() and len(piece) <= MOST_DIGITS:
            numbers.append(int(piece))
        understood = span or (piece.isdecimal() and len(piece) <= MOST_DIGITS)
        if not understood or not all(least <= one <= most for one in numbers):
            raise WorkerError(
                say(
                    "`{piece}` is not one of the {name}, {least} to {most}.",
                    piece=shown(piece, 60),
                    name=name,
                    least=least,
                    most=most,
                ),
                say("Write whole numbers and ranges, such as: 1, 2, 10-13."),
            )
    return _once(name, numbers)


def _numbers(name: str, text: str, least: float, most: float) -> list[float]:
    numbers = []
    for piece in _pieces(name, text):
        try:
            numbers.append(float(piece))
        except ValueError:
            numbers.append(float("nan"))
        if not least <= numbers[-1] <= most:
            raise WorkerError(
                say(
                    "`{piece}` is not a {name}, {least:g} to {most:g}.",
                    piece=shown(piece, 60),
                    name=name,
                    least=least,
                    most=most,
                ),
                say("Write numbers, such as: 3, 5, 7.5."),
            )
    return _once(name, numbers)


def _once(name: str, numbers: list) -> list:
    if not numbers:
        raise WorkerError(
            say("The list of {name} is empty.", name=name),
            say("A range runs upwards, as in 10-13."),
        )
    return list(dict.fromkeys(numbers))


def lay_out(plan: Plan, images: Sequence[np.ndarray], cell_side: int) -> np.ndarray:
    """The page: float32 ``[H, W, 3]`` of the images ``[H, W, 3]``, all of one size, labelled.

    No image is larger than ``cell_side`` each way; 0 leaves them as they are.
    """
    height, width = images[0].shape[:2]
    scale = min(1.0, cell_side / max(height, width)) if cell_side else 1.0
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    letters = max(12, min(width, height) // 18)
    gap = max(4, letters // 3)
    margin = max(captions.size_of_text(text, letters)[0] for text in plan.row_labels) + 2 * gap
    head = letters + 3 * gap
    page_size = (
        margin + len(plan.column_labels) * (width + gap),
        head + len(plan.rows) * (height + gap),
    )
    if max(page_size) > MOST_SIDE:
        raise WorkerError(
            say(
                "The contact sheet would have {width} × {height} pixels, the most is {most} each "
                "way.",
                width=page_size[0],
                height=page_size[1],
                most=MOST_SIDE,
            ),
            say("Set a smaller cell_size."),
        )
    page = Image.new("RGB", page_size, captions.PAPER)
    for column, text in enumerate(plan.column_labels):
        left = margin + column * (width + gap)
        captions.write(page, text, (left, 0, left + width, head), letters)
    for row, text in enumerate(plan.row_labels):
        top = head + row * (height + gap)
        captions.write(page, text, (gap, top, margin - gap, top + height), letters)
    for index, image in enumerate(images):
        row, column = divmod(index, len(plan.column_labels))
        picture = captions.to_page(image)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        page.paste(picture, (margin + column * (width + gap), head + row * (height + gap)))
    return captions.to_pixels(page)
