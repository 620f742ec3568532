"""The held-out lists: prompts that are never trained on, and what their pictures must show."""

import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from posters.colors import contrast
from posters.poster import Phrase, Poster

HELD_OUT = Path(__file__).parents[1] / "held_out"

LISTS = (
    "free", "publication", "english", "chinese", "thousand", "two_lines", "three_lines",
    "new_sizes", "no_text", "colors", "text_heavy",
)  # fmt: skip

NEW_SIZES = (
    (208, 304), (304, 208), (352, 176), (128, 512), (512, 128), (144, 448), (448, 144),
    (224, 288), (288, 224),
)  # fmt: skip
"""Sizes (width, height) that the list `new_sizes` keeps for itself. Nothing else has them."""

FIELDS = tuple(field.name for field in fields(Poster))


@dataclass(frozen=True)
class Item:
    """One entry of a list: the seed of its picture, and the poster. What the prompt leaves open is
    a default in the poster, so that it can be drawn; `asked` names the fields that it does ask
    for, which alone are judged."""

    seed: int
    poster: Poster
    asked: frozenset[str]


def item(row: dict) -> Item:
    """The item of a row of a list."""
    values = {name: row[name] for name in FIELDS if name != "phrases" and row[name] is not None}
    phrases = tuple(
        Phrase(**{key: value for key, value in phrase.items() if value is not None})
        for phrase in row["phrases"]
    )
    asked = frozenset(name for name in ("ink", "ground") if row[name] is not None)
    ink, ground = row["ink"], row["ground"]
    if ink is None and ground is not None:
        values["ink"] = max(("black", "white"), key=lambda key: contrast(key, ground))
    if ground is None and ink is not None:
        values["ground"] = max(("white", "black"), key=lambda key: contrast(key, ink))
    return Item(row["seed"], Poster(**{**values, "phrases": phrases}), asked)


@cache
def read(name: str) -> tuple[Item, ...]:
    """A held-out list."""
    lines = (HELD_OUT / f"{name}.jsonl").read_text("utf-8").splitlines()
    return tuple(item(json.loads(line)) for line in lines)


def write(name: str, rows: list[dict]) -> None:
    """Writes a list. Fields that a row lacks are null; a phrase may be its text alone."""
    lines = []
    for number, row in enumerate(rows):
        phrases = [{"text": p} if isinstance(p, str) else p for p in row.get("phrases", ())]
        phrases = [{"position": None, "size": None, **phrase} for phrase in phrases]
        empty = dict.fromkeys(FIELDS)
        full = {"seed": number, **empty, "width": 256, "height": 256, **row, "phrases": phrases}
        lines.append(json.dumps(full, ensure_ascii=False) + "\n")
    HELD_OUT.mkdir(exist_ok=True)
    (HELD_OUT / f"{name}.jsonl").write_text("".join(lines), "utf-8")
