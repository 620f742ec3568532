"""Lines of text as a reader finds them, and the order in which people read them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A line of text, its box (left, top, right, bottom) in pixels, and the reader's confidence
    in 0..1."""

    text: str
    box: tuple[int, int, int, int]
    confidence: float = 1.0


def reading_order(lines: list[Line]) -> list[Line]:
    """Rows from top to bottom, and within a row from left to right. Two lines belong to one row
    if their heights overlap by more than half of the lower one."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: line.box[1] + line.box[3]):
        if rows and _overlap(rows[-1][-1], line) > 0.5:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.box[0])]


def _overlap(a: Line, b: Line) -> float:
    """The height that two lines share, as a share of the lower one."""
    shared = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    return shared / max(1, min(a.box[3] - a.box[1], b.box[3] - b.box[1]))
