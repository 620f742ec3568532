"""The folders of the node pack depend on each other in one direction, and its files form no circle.

The test reads the import statements, so that nothing has to be installed.
"""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parents[1] / "comfy_node"
FRONT = "__init__"

ALLOWED = {
    # what runs in ComfyUI
    FRONT: {"nodes", "routes", "settings", "texts"},
    "nodes": {"worker", "prompts", "pictures", "settings", "texts", "wire"},
    "routes": {"worker", "prompts", "settings", "texts"},
    # what needs no ComfyUI
    "worker": {"settings", "texts", "wire", "files"},
    "prompts": {"texts", "wire", "files"},
    "pictures": {"texts"},
    "settings": {"texts", "files"},
    "texts": {"wire"},
    "wire": set(),
    "files": set(),
}
"""Which other rooms a room may import. A room is a folder or a file directly in the pack."""

NEED_COMFYUI = {FRONT, "nodes"}
"""The only rooms that import ComfyUI's modules; everything else can be tested without it."""
COMFYUI = {"comfy", "comfy_api", "folder_paths", "latent_preview", "nodes", "server"}


def parts_of(file: Path) -> tuple[str, ...]:
    """A file as a module's path within the pack: ``worker/client.py`` is (worker, client)."""
    parts = file.relative_to(PACK).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts


@cache
def modules() -> dict[tuple[str, ...], ast.Module]:
    """The syntax tree of every file of the pack, by its module's path."""
    files = sorted(PACK.rglob("*.py"))
    return {parts_of(file): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def defined_in(package: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Where ``from package import name`` takes the name from: a submodule, or what re-exports it.

    A name that a folder's ``__init__.py`` re-exports counts as the file that defines it, so that
    a circle through the folder's front page is found too.
    """
    if (*package, name) in modules():
        return (*package, name)
    for node in modules()[package].body if package else ():
        re_exports = isinstance(node, ast.ImportFrom) and node.level == 1
        if re_exports and name in {alias.asname or alias.name for alias in node.names}:
            return (*package, *(node.module or name).split("."))
    return package or (FRONT,)


def imports(module: tuple[str, ...]) -> set[tuple[str, ...]]:
    """The modules of the pack that one of its modules imports, wherever in the file."""
    is_package = any(other[:-1] == module for other in modules())
    package = module if is_package else module[:-1]
    found = set()
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            base = (*base, *(node.module or "").split(".")) if node.module else base
            found |= {defined_in(base, alias.name) for alias in node.names}
    return found - {module}


def absolute_imports(module: tuple[str, ...]) -> set[str]:
    """The top-level packages that a module imports by an absolute name."""
    found = set()
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_every_room_is_listed():
    assert {module[0] for module in modules()} == set(ALLOWED)


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room):
    used = {
        f"{'.'.join(module)} imports {'.'.join(target)}"
        for module in modules()
        if module[0] == room
        for target in imports(module)
        if target[0] not in {room, *ALLOWED[room]}
    }
    assert not used


@pytest.mark.parametrize("room", ALLOWED)
def test_every_allowed_import_is_used(room):
    used = {target[0] for module in modules() if module[0] == room for target in imports(module)}
    assert used - {room} == ALLOWED[room]


@pytest.mark.parametrize("graph", ["rooms", "files"])
def test_nothing_forms_a_circle(graph):
    edges = ALLOWED if graph == "rooms" else {module: imports(module) for module in modules()}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {error.args[1]}")


def test_only_the_nodes_need_comfyui():
    needing = {module[0] for module in modules() if absolute_imports(module) & COMFYUI}
    assert needing == NEED_COMFYUI


def test_the_pack_never_imports_itself_by_name():
    # ComfyUI imports the pack under the name of the folder that it was cloned into.
    assert not [module for module in modules() if "comfy_node" in absolute_imports(module)]


def test_a_circle_through_a_rooms_front_page_is_found(monkeypatch):
    texts = {
        ("room",): "from .a import A",
        ("room", "a"): "from .b import B",
        ("room", "b"): "from . import A",
    }
    trees = {module: ast.parse(text) for module, text in texts.items()}
    monkeypatch.setitem(globals(), "modules", lambda: trees)
    assert imports(("room", "b")) == {("room", "a")}
    with pytest.raises(pytest.fail.Exception, match="circle"):
        test_nothing_forms_a_circle("files")
