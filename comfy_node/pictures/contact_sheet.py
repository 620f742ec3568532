"""A contact sheet: parses which images it contains, and arranges them with captions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..texts import WorkerError, printable, say
from . import captions

MAX_CELLS = 64
MAX_SEED = 0xFFFFFFFFFFFFFFFF
MAX_STEPS = 200
MIN_CFG, MAX_CFG = 1.0, 20.0
AXES = ("seeds", "steps", "cfg")
MAX_SIDE = 16384
"""Maximum width and height of a sheet in pixels."""
MAX_DIGITS = 30
_RANGE = re.compile(rf"(\d{{1,{MAX_DIGITS}}})\s*[-–…]\s*(\d{{1,{MAX_DIGITS}}})")
_SEPARATORS = re.compile(r"[,，;；、\n]+")


@dataclass(frozen=True)
class Cell:
    """The settings of one image of the sheet."""

    seed: int
    steps: int
    cfg: float

    def caption(self, axis: str) -> str:
        """One of its settings as text."""
        return {
            "seeds": f"seed {self.seed}",
            "steps": f"{self.steps} steps" if self.steps != 1 else "1 step",
            "cfg": f"cfg {self.cfg:g}",
        }[axis]


@dataclass(frozen=True)
class Plan:
    """The cells row by row, and the captions of rows and columns."""

    rows: list[list[Cell]]
    row_labels: list[str]
    column_labels: list[str]

    @property
    def cells(self) -> list[Cell]:
        """All cells in reading order."""
        return [cell for row in self.rows for cell in row]


def plan(seeds: str, steps: str, cfg: str, columns: str) -> Plan:
    """Every combination of the three lists; ``columns`` is the one that varies from left to right.

    Raises :class:`WorkerError` if a list is invalid, or if there would be too many images.
    """
    values = {
        "seeds": _integers("seeds", seeds, 0, MAX_SEED),
        "steps": _integers("steps", steps, 1, MAX_STEPS),
        "cfg": _numbers("cfg", cfg, MIN_CFG, MAX_CFG),
    }
    count = int(np.prod([len(one) for one in values.values()], dtype=object))
    if count > MAX_CELLS:
        raise WorkerError(
            say(
                "The contact sheet would have {count} images; the maximum is {most}.",
                count=count,
                most=MAX_CELLS,
            ),
            say("Shorten one of the lists, or make a second sheet."),
        )
    row_axes = [axis for axis in AXES if axis != columns]
    rows = []
    for values_down in itertools.product(*(values[axis] for axis in row_axes)):
        row = []
        for across in values[columns]:
            chosen = {columns: across, **dict(zip(row_axes, values_down, strict=True))}
            row.append(Cell(chosen["seeds"], chosen["steps"], chosen["cfg"]))
        rows.append(row)
    row_labels = ["\n".join(row[0].caption(axis) for axis in row_axes) for row in rows]
    return Plan(rows, row_labels, [cell.caption(columns) for cell in rows[0]])


def _split_list(name: str, text: str) -> list[str]:
    pieces = [piece.strip() for piece in _SEPARATORS.split(text) if piece.strip()]
    if not pieces:
        raise WorkerError(
            say("The list of {name} is empty.", name=name),
            say("Write numbers such as: 0, 1, 2."),
        )
    return pieces


def _integers(name: str, text: str, least: int, most: int) -> list[int]:
    numbers: list[int] = []
    for piece in _split_list(name, text):
        span = _RANGE.fullmatch(piece)
        if span:
            first, last = int(span[1]), int(span[2])
            # A longer range exceeds the limit in any case, and could fill the memory.
            numbers += range(first, min(last, first + MAX_CELLS) + 1)
        elif piece.isdecimal() and len(piece) <= MAX_DIGITS:
            numbers.append(int(piece))
        understood = span or (piece.isdecimal() and len(piece) <= MAX_DIGITS)
        if not understood or not all(least <= one <= most for one in numbers):
            raise WorkerError(
                say(
                    "`{piece}` is not a valid value for {name}, which are from {least} to {most}.",
                    piece=printable(piece, 60),
                    name=name,
                    least=least,
                    most=most,
                ),
                say("Write whole numbers and ranges, such as: 1, 2, 10-13."),
            )
    return _unique(name, numbers)


def _numbers(name: str, text: str, least: float, most: float) -> list[float]:
    numbers = []
    for piece in _split_list(name, text):
        try:
            numbers.append(float(piece))
        except ValueError:
            numbers.append(float("nan"))
        if not least <= numbers[-1] <= most:
            raise WorkerError(
                say(
                    "`{piece}` is not a valid {name} from {least:g} to {most:g}.",
                    piece=printable(piece, 60),
                    name=name,
                    least=least,
                    most=most,
                ),
                say("Write numbers, such as: 3, 5, 7.5."),
            )
    return _unique(name, numbers)


def _unique(name: str, numbers: list) -> list:
    if not numbers:
        raise WorkerError(
            say("The list of {name} is empty.", name=name),
            say("Write the smaller number of a range first, as in 10-13."),
        )
    return list(dict.fromkeys(numbers))


def render(plan: Plan, images: Sequence[np.ndarray], cell_side: int) -> np.ndarray:
    """The sheet as float32 ``[H, W, 3]``, from images ``[H, W, 3]`` that have the same size.

    Images are reduced to ``cell_side`` pixels in both directions; 0 keeps their size. Raises
    :class:`WorkerError` if the sheet would be too large.
    """
    height, width = images[0].shape[:2]
    scale = min(1.0, cell_side / max(height, width)) if cell_side else 1.0
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    font_size = max(12, min(width, height) // 18)
    gap = max(4, font_size // 3)
    margin = max(captions.text_size(text, font_size)[0] for text in plan.row_labels) + 2 * gap
    header = font_size + 3 * gap
    page_size = (
        margin + len(plan.column_labels) * (width + gap),
        header + len(plan.rows) * (height + gap),
    )
    if max(page_size) > MAX_SIDE:
        raise WorkerError(
            say(
                "The contact sheet would have {width} × {height} pixels; the maximum is "
                "{most} in each direction.",
                width=page_size[0],
                height=page_size[1],
                most=MAX_SIDE,
            ),
            say("Set a smaller cell_size."),
        )
    page = Image.new("RGB", page_size, captions.BACKGROUND)
    for column, text in enumerate(plan.column_labels):
        left = margin + column * (width + gap)
        captions.draw_text(page, text, (left, 0, left + width, header), font_size)
    for row, text in enumerate(plan.row_labels):
        top = header + row * (height + gap)
        captions.draw_text(page, text, (gap, top, margin - gap, top + height), font_size)
    for index, image in enumerate(images):
        row, column = divmod(index, len(plan.column_labels))
        picture = captions.to_image(image)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        page.paste(picture, (margin + column * (width + gap), header + row * (height + gap)))
    return captions.to_pixels(page)
