"""The settings file ``ovis_worker.json``, which describes workers by label."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ..files import read_json, write_atomically
from ..texts import WorkerError, printable, say

SETTINGS_FILE = "ovis_worker.json"
BACKUP_SUFFIX = ".bak"
"""The settings before the last change are kept in a file with this suffix."""


def read_entries(folder: Path | None) -> dict[str, object]:
    """All workers of the settings file by label.

    Raises :class:`WorkerError` if the file cannot be read. A missing file describes no workers.
    """
    return dict(_read(folder / SETTINGS_FILE)["workers"]) if folder else {}


def write_entries(folder: Path, workers: Mapping[str, object], first: str) -> None:
    """Replaces all workers; ``first`` is written before the others.

    Other contents of the file are kept, and the previous file becomes the backup. Raises
    :class:`WorkerError` if the existing file cannot be read, and does not replace it then, or if
    writing fails.
    """
    path = folder / SETTINGS_FILE
    whole = _read(path)
    ahead = {first: workers[first]} if first in workers else {}
    whole["workers"] = {**ahead, **workers}
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.is_file():
            write_atomically(path.with_name(SETTINGS_FILE + BACKUP_SUFFIX), path.read_bytes())
        write_atomically(path, text.encode("utf-8", "surrogatepass"))
    except OSError as error:
        raise WorkerError(
            say(
                "The worker settings in {path} cannot be written: {why}.",
                path=path,
                why=printable(error),
            ),
            say(
                "Nothing was changed. Allow the user that runs ComfyUI to write to that "
                "folder, and save again."
            ),
        ) from error


def _read(path: Path) -> dict:
    """The file's JSON object, with a dictionary ``workers`` in it even if the file is missing."""
    try:
        if not os.path.lexists(path):
            return {"workers": {}}
        if not path.is_file():
            raise ValueError("it is not a file")
        whole = read_json(path)
        workers = whole.get("workers") if isinstance(whole, dict) else None
        if not isinstance(whole, dict) or not isinstance(workers, dict | None):
            raise ValueError('it is not {"workers": {LABEL: {...}}}')
    except (OSError, ValueError) as error:
        raise WorkerError(
            say(
                "The worker settings in {path} cannot be read: {why}.",
                path=path,
                why=printable(error),
            ),
            say(
                "Correct the file, or restore {backup}, which has the settings before the "
                "last change.",
                backup=path.name + BACKUP_SUFFIX,
            ),
        ) from error
    return {**whole, "workers": workers or {}}
