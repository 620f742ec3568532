"""The secret by which workers recognise this ComfyUI, so that its jobs outlive a connection.

A job belongs to whoever knows the secret. It is created once, kept in the pack's private folder
(:mod:`.private_folder`), and sent to workers only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

from ..files import write_atomically
from .secret import Secret

if os.name == "nt":
    import msvcrt
else:
    import fcntl

log = logging.getLogger("ovis-worker")

IDENTITY_FILE = "ovis_worker_identity"
LOCK_SUFFIX = ".lock"
SECRET_BYTES = 32
"""Bytes of the secret; the protocol fixes their number."""
_HEX = re.compile(rf"[0-9a-f]{{{2 * SECRET_BYTES}}}\n?")
_MAX_FILE_BYTES = 1024

_known: dict[Path, Secret] = {}
_known_lock = threading.Lock()


def identity(folder: Path | None) -> Secret:
    """The secret of ``folder``, as hexadecimal digits; it is created if there is none.

    Every process that uses the folder gets the same secret; if the folder cannot be used, it lasts
    as long as this process. Without a folder, each call returns another one.
    """
    if folder is None:
        return _new()
    with _known_lock:
        if folder not in _known:
            _known[folder] = _of_folder(folder)
        return _known[folder]


def _new() -> Secret:
    return Secret(secrets.token_bytes(SECRET_BYTES).hex())


def _of_folder(folder: Path) -> Secret:
    path = folder / IDENTITY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(path.with_name(IDENTITY_FILE + LOCK_SUFFIX)):
            found = _read(path)
            if found is None:
                found = _new()
                write_atomically(path, f"{found.reveal()}\n".encode())
            return found
    except OSError as error:
        log.warning(
            "%s cannot be used: %s. Jobs of this ComfyUI cannot be found again after it restarts.",
            path,
            error,
        )
        return _new()


def _read(path: Path) -> Secret | None:
    """The stored secret, or ``None`` if it is missing or, with a line in the log, damaged."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES).decode("ascii", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        why = f"cannot be read: {error}"
    else:
        if _HEX.fullmatch(text):
            _keep_private(path)
            return Secret(text.strip())
        why = "is damaged"
    log.warning("%s %s. A new identity replaces it; earlier jobs are not found again.", path, why)
    return None


def _keep_private(path: Path) -> None:
    """Takes the file away from other users, if a copy or a backup has given it to them."""
    if os.name != "nt" and path.stat().st_mode & 0o077:
        with contextlib.suppress(OSError):
            path.chmod(0o600)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock between processes, so that two of them do not create different secrets.

    A file system without locks, such as some network ones, is used without.
    """
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        with contextlib.suppress(OSError):
            if os.name == "nt":
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Closing a file ends its lock on POSIX; Windows wants it said.
            if os.name == "nt":
                with contextlib.suppress(OSError):
                    file.seek(0)
                    msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
