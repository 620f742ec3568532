"""The rooms of the demo model's recipe depend on each other in one direction."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import train

TRAIN = Path(train.__file__).parent

ALLOWED = {
    "posters": set(),
    "prompts": {"posters"},
    "training": {"posters", "prompts"},
    "judging": {"posters"},
    "stages": {"posters", "prompts", "training", "judging"},
}
"""Which other rooms a room may import."""


def imported(room: str) -> set[str]:
    """The rooms that a room's files import, itself left out."""
    found = set()
    for file in (TRAIN / room).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            found |= {name.partition(".")[0] for name in names}
    return (found & set(ALLOWED)) - {room}


def test_every_folder_of_code_is_a_room() -> None:
    assert {file.parent.name for file in TRAIN.glob("*/*.py")} == set(ALLOWED)


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_what_it_may(room: str) -> None:
    assert imported(room) == ALLOWED[room]
