"""Writes a worker's settings: ``ovis_worker.json`` in ComfyUI's user folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .errors import WorkerError
from .settings import DEFAULT_LABEL, SETTINGS_FILE, entries, normal_url
from .texts import say

FIELDS = ("url", "token", "binary", "model")
_LABEL = re.compile(r"[\w.-]{1,40}")


def save(user: Path, label: str, changes: Mapping[str, str]) -> None:
    """Changes some fields of a worker; an empty text takes a field away.

    What the browser does not show, such as ``args``, stays. Raises
    :class:`WorkerError` for what would not work, and then changes nothing.
    """
    if not _LABEL.fullmatch(label):
        raise WorkerError(
            say("`{label}` is not a worker's label.", label=label),
            say("Use up to 40 letters, digits, points, hyphens and underscores."),
        )
    unknown = sorted(set(changes) - set(FIELDS))
    if unknown or not all(isinstance(value, str) for value in changes.values()):
        raise WorkerError(say("A worker has the text settings {names}.", names=", ".join(FIELDS)))
    changes = {key: value.strip() for key, value in changes.items()}
    _check(changes)
    workers = entries(user)
    entry = workers.get(label)
    entry = {**(entry if isinstance(entry, dict) else {}), **changes}
    workers[label] = {key: value for key, value in entry.items() if value != ""}
    _write(user, workers)


def remove(user: Path, label: str) -> None:
    """Takes a worker away; `local` then means what it means without settings."""
    workers = entries(user)
    if workers.pop(label, None) is None:
        raise WorkerError(say("There are no settings for a worker called `{label}`.", label=label))
    _write(user, workers)


def _check(changes: Mapping[str, str]) -> None:
    if changes.get("url"):
        normal_url(changes["url"])
    binary, model = changes.get("binary"), changes.get("model")
    if binary and not (Path(binary).is_file() and os.access(binary, os.X_OK)):
        raise WorkerError(
            say("There is no program {path}.", path=binary),
            say(
                "Name the ovis-worker binary by its whole path on the machine that ComfyUI runs on."
            ),
        )
    if model and not Path(model).exists():
        raise WorkerError(
            say("There is nothing at {path}.", path=model),
            say(
                "Name the folder or file with the weights, or leave it empty for ComfyUI's own "
                "models folder."
            ),
        )


def _write(user: Path, workers: Mapping[str, object]) -> None:
    """As a whole or not at all; it holds secrets, so only its owner may read it."""
    path = user / SETTINGS_FILE
    whole: dict = {}
    if path.is_file():
        with contextlib.suppress(ValueError):
            whole = json.loads(path.read_text(encoding="utf-8"))
    first = {DEFAULT_LABEL: workers[DEFAULT_LABEL]} if DEFAULT_LABEL in workers else {}
    whole["workers"] = {**first, **workers}
    try:
        user.mkdir(parents=True, exist_ok=True)
        handle, new = tempfile.mkstemp(dir=user, prefix=SETTINGS_FILE)  # mode 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(whole, file, indent=2, ensure_ascii=False)
            file.write("\n")
        os.replace(new, path)
    except OSError as error:
        raise WorkerError(
            say("The worker settings in {path} cannot be written: {why}.", path=path, why=error)
        ) from error
