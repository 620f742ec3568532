"""Command lines that hints name, for this machine's shell."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from ..settings.installed import Python


def pip_command(*args: str, python: Python | None = None) -> str:
    """The command line with which the Python that runs ComfyUI installs something."""
    executable = quoted((python or Python.running()).executable)
    return " ".join([executable, "-m pip install", *args])


def quoted(path: Path | str) -> str:
    """A path as a word of a command line on this machine."""
    if sys.platform == "win32":
        return subprocess.list2cmdline([str(path)])
    return shlex.quote(str(path))
