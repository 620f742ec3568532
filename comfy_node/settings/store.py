"""Changes a worker's settings as the browser asks."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..texts import WorkerError, say, shown
from .address import Address, read_address
from .cleaning import cleaned, cleaned_path
from .config import DEFAULT_LABEL
from .file import entries, write
from .secret import HIDDEN, Secret

FIELDS = ("url", "token", "binary", "model")
_PATHS = ("binary", "model")
_LABEL = re.compile(r"[\w.-]{1,40}")


def save(folder: Path, label: str, changes: Mapping[str, object]) -> None:
    """Changes some fields of a worker; an empty text takes a field away.

    What the browser does not show, such as ``args``, stays. Raises
    :class:`WorkerError` for what would not work, and then changes nothing.
    """
    if not _LABEL.fullmatch(label):
        raise WorkerError(
            say("`{label}` is not a worker's label.", label=shown(label, 60)),
            say("Use up to 40 letters, digits, points, hyphens and underscores."),
        )
    unknown = sorted(set(changes) - set(FIELDS))
    if unknown or not all(isinstance(value, str) for value in changes.values()):
        raise WorkerError(say("A worker has the text settings {names}.", names=", ".join(FIELDS)))
    changes = {
        key: (cleaned_path if key in _PATHS else cleaned)(value) or ""
        for key, value in changes.items()
    }
    workers = entries(folder)
    entry = workers.get(label)
    entry = entry if isinstance(entry, dict) else {}
    if changes.get("url"):
        changes["url"] = _with_secrets(changes["url"], entry.get("url"))
    _check(changes)
    entry = {**entry, **changes}
    workers[label] = {key: value for key, value in entry.items() if value != ""}
    write(folder, workers, DEFAULT_LABEL)


def remove(folder: Path, label: str) -> None:
    """Takes a worker away; `local` then means what it means without settings."""
    workers = entries(folder)
    if workers.pop(label, None) is None:
        raise WorkerError(
            say("There are no settings for a worker called `{label}`.", label=shown(label, 60))
        )
    write(folder, workers, DEFAULT_LABEL)


def _with_secrets(url: str, before: object) -> str:
    """The address with the login and query that it had, where the browser sends them hidden."""
    new = read_address(url)
    login, query = new.login, new.query
    if not (_is_hidden(login) or _is_hidden(query)):
        return url
    old = _address_or_none(before)
    same = old is not None and old.netloc == new.netloc
    if _is_hidden(login):
        login = old.login if same else None
    if _is_hidden(query):
        query = old.query if same else None
    if (new.login and login is None) or (new.query and query is None):
        raise WorkerError(
            say("The login in the address is hidden, and belongs to another host."),
            say("Write the address with its login: wss://USER:PASSWORD@HOST:PORT"),
        )
    with_login = new.url.replace("://", f"://{login.reveal()}@", 1) if login else new.url
    return f"{with_login}?{query.reveal()}" if query else with_login


def _is_hidden(secret: Secret | None) -> bool:
    return secret is not None and secret.reveal() == HIDDEN


def _address_or_none(text: object) -> Address | None:
    try:
        return read_address(text) if isinstance(text, str) else None
    except WorkerError:
        return None


def _check(changes: Mapping[str, str]) -> None:
    if changes.get("url"):
        read_address(changes["url"])
    for key in _PATHS:
        if "\0" in changes.get(key, ""):
            raise WorkerError(say("There is nothing at {path}.", path=shown(changes[key])))
    binary, model = changes.get("binary"), changes.get("model")
    if binary and not (_is(Path.is_file, binary) and os.access(binary, os.X_OK)):
        raise WorkerError(
            say("There is no program {path}.", path=shown(binary)),
            say(
                "Name the ovis-worker binary by its whole path on the machine that ComfyUI runs on."
            ),
        )
    if model and not _is(Path.exists, model):
        raise WorkerError(
            say("There is nothing at {path}.", path=shown(model)),
            say(
                "Name the folder or file with the weights, or leave it empty for ComfyUI's own "
                "models folder."
            ),
        )


def _is(question, path: str) -> bool:
    """Answers a question about a path; one that cannot be a path, or not be looked at, is not."""
    try:
        return question(Path(path))
    except (OSError, ValueError):
        return False
