"""Changes to a worker's settings that the settings dialog in the browser asks for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..texts import WorkerError, printable, say
from .address import Address, read_address
from .certificate import display_fingerprint, read_fingerprint
from .cleaning import clean_path, clean_text
from .config import DEFAULT_LABEL, DEFAULT_URL
from .file import read_entries, write_entries
from .lookup import overridden
from .secret import HIDDEN, Secret

FIELDS = ("url", "token", "binary", "model", "fingerprint", "vram")
FIELDS_FROM_ELSEWHERE = ("url", "token", "fingerprint")
"""The settings that a page on another machine may change: no program, and no path."""
_PATHS = ("binary", "model")
_BUDGET = re.compile(r"auto|\d+(\.\d+)?\s*([kmgt](i?b)?)?", re.IGNORECASE)
"""What the worker's ``--vram`` takes."""
_LABEL = re.compile(r"[\w.-]{1,40}")


def save(folder: Path, label: str, changes: Mapping[str, object]) -> None:
    """Changes some fields of a worker; an empty text removes a field.

    Fields that the browser does not show, such as ``args``, are kept. Raises :class:`WorkerError`
    if a value is invalid, and changes nothing then.
    """
    if not _LABEL.fullmatch(label):
        raise WorkerError(
            say("`{label}` is not a valid label for a worker.", label=printable(label, 60)),
            say("Use up to 40 letters, digits, dots, hyphens and underscores."),
        )
    unknown = sorted(set(changes) - set(FIELDS))
    if unknown or not all(isinstance(value, str) for value in changes.values()):
        raise WorkerError(
            say("A worker's settings are the texts {names}.", names=", ".join(FIELDS))
        )
    changes = {
        key: (clean_path if key in _PATHS else clean_text)(value) or ""
        for key, value in changes.items()
    }
    workers = read_entries(folder)
    entry = workers.get(label)
    entry = entry if isinstance(entry, dict) else {}
    if changes.get("url"):
        changes["url"] = _with_secrets(changes["url"], entry.get("url"))
    if changes.get("fingerprint"):
        changes["fingerprint"] = display_fingerprint(read_fingerprint(changes["fingerprint"]))
    _check(changes)
    entry = {**entry, **changes}
    workers[label] = {key: value for key, value in entry.items() if value != ""}
    write_entries(folder, workers, DEFAULT_LABEL)


def remove(folder: Path, label: str) -> None:
    """Removes a worker's settings; ``local`` then has its defaults."""
    workers = read_entries(folder)
    if workers.pop(label, None) is None:
        raise WorkerError(
            say("There are no settings for a worker called `{label}`.", label=printable(label, 60))
        )
    write_entries(folder, workers, DEFAULT_LABEL)


def save_from_elsewhere(folder: Path, label: str, changes: Mapping[str, object]) -> None:
    """Like :func:`save`, for a page on another machine: only an address, a token, a fingerprint.

    An address of this machine is refused, because the pack would start a worker there; so is an
    entry that names a program, a path or arguments. A token is never sent to another host than the
    one it was saved for: with a new address, it must be typed again.
    """
    if set(changes) - set(FIELDS_FROM_ELSEWHERE):
        raise WorkerError(
            say(
                "From another machine, only {names} can be changed.",
                names=", ".join(FIELDS_FROM_ELSEWHERE),
            ),
            say(
                "Programs and paths are set in a browser on the machine that ComfyUI runs on, or "
                "in ovis_worker.json there."
            ),
        )
    entry = _entry_without_programs(folder, label)
    given = changes.get("url", entry.get("url"))
    new = read_address((clean_text(given) if isinstance(given, str) else None) or DEFAULT_URL)
    if new.is_loopback:
        raise WorkerError(
            say(
                "{address} is an address of ComfyUI's own machine, which can be set only there.",
                address=printable(new.netloc, 60),
            ),
            say("Enter the address of another machine, under a label of its own."),
        )
    if label == DEFAULT_LABEL and {"url", "token"} & set(overridden(label)):
        raise WorkerError(
            say("The worker `{label}` is set by environment variables.", label=DEFAULT_LABEL),
            say("Add a worker with another label."),
        )
    old = _address_or_none(entry.get("url"))
    if old is None or (old.scheme, old.netloc) != (new.scheme, new.netloc):
        changes = {"token": "", "fingerprint": "", **changes}
    save(folder, label, changes)


def remove_from_elsewhere(folder: Path, label: str) -> None:
    """Like :func:`remove`, for a page on another machine; refused if the entry names programs."""
    _entry_without_programs(folder, label)
    remove(folder, label)


def _entry_without_programs(folder: Path, label: str) -> dict:
    """The worker's entry; raises :class:`WorkerError` if it has more than another machine sets."""
    entry = read_entries(folder).get(label, {})
    if not isinstance(entry, dict) or set(entry) - {*FIELDS_FROM_ELSEWHERE, "patience", "free"}:
        raise WorkerError(
            say(
                "The settings of the worker `{label}` name a program, a path or arguments.",
                label=printable(label, 60),
            ),
            say("Change or remove them in a browser on the machine that ComfyUI runs on."),
        )
    return entry


def _with_secrets(url: str, before: object) -> str:
    """Puts the stored login and query back where the browser sends the placeholder.

    The browser never gets these secrets. They are restored only if host and port are unchanged, so
    that an edited address cannot send them to another host.
    """
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
            say("The hidden login belongs to another host, and is not used for this one."),
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
    vram = changes.get("vram")
    if vram and not _BUDGET.fullmatch(vram):
        raise WorkerError(
            say("`{vram}` is not an amount of GPU memory.", vram=printable(vram, 40)),
            say("Enter one such as 12GiB, or leave the field empty to use what is free."),
        )
    for key in _PATHS:
        if "\0" in changes.get(key, ""):
            raise WorkerError(say("The path {path} does not exist.", path=printable(changes[key])))
    binary, model = changes.get("binary"), changes.get("model")
    if binary and not (_is(Path.is_file, binary) and os.access(binary, os.X_OK)):
        raise WorkerError(
            say("There is no program {path}.", path=printable(binary)),
            say(
                "Enter the full path of the ovis-worker binary on the machine that ComfyUI runs on."
            ),
        )
    if model and not _is(Path.exists, model):
        raise WorkerError(
            say("The path {path} does not exist.", path=printable(model)),
            say(
                "Enter the folder or file with the weights, or leave the field empty to use "
                "ComfyUI's models folder."
            ),
        )


def _is(question, path: str) -> bool:
    """Whether ``question`` holds for a path; false for a path that is invalid or not accessible."""
    try:
        return question(Path(path))
    except (OSError, ValueError):
        return False
