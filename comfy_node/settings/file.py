"""The file of the workers' settings: read in any encoding, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ..files import read_json, replace
from ..texts import WorkerError, say, shown

SETTINGS_FILE = "ovis_worker.json"
BACKUP_SUFFIX = ".bak"
"""The settings as they were before the last change lie beside them under this ending."""


def entries(folder: Path | None) -> dict[str, object]:
    """What the settings file says, by label; raises :class:`WorkerError` when it is unreadable."""
    return dict(_whole(folder / SETTINGS_FILE)["workers"]) if folder else {}


def write(folder: Path, workers: Mapping[str, object], first: str) -> None:
    """Replaces all entries, ``first`` before the others; what else the file holds stays.

    The settings before this change are kept beside the file. A file that cannot be read
    is not replaced: that raises :class:`WorkerError`.
    """
    path = folder / SETTINGS_FILE
    whole = _whole(path)
    ahead = {first: workers[first]} if first in workers else {}
    whole["workers"] = {**ahead, **workers}
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.is_file():
            replace(path.with_name(SETTINGS_FILE + BACKUP_SUFFIX), path.read_bytes())
        replace(path, text.encode("utf-8", "surrogatepass"))
    except OSError as error:
        raise WorkerError(
            say(
                "The worker settings in {path} cannot be written: {why}.",
                path=path,
                why=shown(error),
            ),
            say("Nothing was changed. Let ComfyUI's user write to that folder, and save again."),
        ) from error


def _whole(path: Path) -> dict:
    """The file's JSON object, with a dictionary ``workers``; a missing file has none in it."""
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
                "The worker settings in {path} cannot be read: {why}.", path=path, why=shown(error)
            ),
            say(
                "Put the file right, or put back {backup}, the settings before the last change.",
                backup=path.name + BACKUP_SUFFIX,
            ),
        ) from error
    return {**whole, "workers": workers or {}}
