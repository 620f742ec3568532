"""Finds the worker's binary on this machine, and tells how it was installed."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .config import PACK_ROOT

PACKAGE = "ovis-worker-bin"
"""The worker's package on PyPI."""
PROGRAM = "ovis-worker.exe" if os.name == "nt" else "ovis-worker"

CLONE, PIP, CARGO, ELSEWHERE = "clone", "pip", "cargo", "elsewhere"
"""The ways in which a worker was installed: built in the clone of this pack, by pip into the Python
that runs ComfyUI, by ``cargo install``, or otherwise."""


@dataclass(frozen=True)
class Python:
    """The Python that runs ComfyUI, as far as it decides where programs are installed."""

    executable: str
    scripts: tuple[Path, ...]
    """The folders of installed programs: the environment's and the user's."""

    @classmethod
    def running(cls) -> Python:
        """The Python of this process.

        A portable installation has ``python_embeded/Scripts``, in which pip installs programs, but
        which is not on PATH.
        """
        schemes = [sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")]
        named = [sysconfig.get_path("scripts", scheme) for scheme in schemes]
        folder = Path(sys.executable).parent
        places = [*map(Path, filter(None, named)), folder, folder / "Scripts"]
        return cls(sys.executable or "python", tuple(dict.fromkeys(places)))


def built_binary(root: Path = PACK_ROOT) -> Path:
    """Where cargo builds the worker in the clone of this pack."""
    return root / "target" / "release" / PROGRAM


def find_binary(
    environ: Mapping[str, str], python: Python | None = None, root: Path = PACK_ROOT
) -> str | None:
    """The worker's binary: built in this clone, installed by pip, on PATH, or by cargo."""
    for path in _candidates(python or Python.running(), root):
        if _is_program(path):
            return str(path)
    found = shutil.which("ovis-worker", path=environ.get("PATH"))
    installed = _cargo_folder(environ) / PROGRAM
    return found or (str(installed) if _is_program(installed) else None)


def how_installed(
    binary: str,
    environ: Mapping[str, str] = os.environ,
    python: Python | None = None,
    root: Path = PACK_ROOT,
) -> str:
    """How a binary was installed, which decides how it is updated."""
    path = Path(binary)
    folders = {
        CLONE: [built_binary(root).parent],
        PIP: (python or Python.running()).scripts,
        CARGO: [_cargo_folder(environ)],
    }
    for way, places in folders.items():
        if any(_is_same(path.parent, place) for place in places):
            return way
    return ELSEWHERE


def _candidates(python: Python, root: Path) -> Iterator[Path]:
    yield built_binary(root)
    for folder in python.scripts:
        yield folder / PROGRAM


def _cargo_folder(environ: Mapping[str, str]) -> Path:
    home = environ.get("CARGO_HOME")
    return (Path(home) if home else Path.home() / ".cargo") / "bin"


def _is_program(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.X_OK)
    except OSError:
        return False


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve()
    except OSError:
        return False
