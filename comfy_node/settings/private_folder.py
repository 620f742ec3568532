"""The folder for settings, logs and PID files, which no route of ComfyUI serves.

ComfyUI's user-data routes read and write everything in ``user/default``. The settings name a
program to start and contain a token, so they are in ComfyUI's system user directory,
``user/__ovis_worker``, which these routes refuse. Older versions of ComfyUI have no system users,
but do not serve a user of that name either, so the folder is the same there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from ..files import write_atomically
from .file import SETTINGS_FILE

log = logging.getLogger("ovis-worker")

NAME = "ovis_worker"
_EMPTY = json.dumps({"workers": {}}).encode()


def folder_of(folder_paths: ModuleType) -> Path:
    """The first candidate folder that is in none of the folders that this ComfyUI serves."""
    candidates = []
    if hasattr(folder_paths, "get_system_user_directory"):
        candidates.append(Path(folder_paths.get_system_user_directory(NAME)))
    candidates.append(Path(folder_paths.get_user_directory()) / f"__{NAME}")
    served = list(_served(folder_paths))
    for candidate in candidates:
        if not any(_is_within(candidate, folder) for folder in served):
            return candidate
    # All candidates may be served, for example if the output folder contains the user folder.
    return _own_settings()


def prepare(folder: Path, old: Path) -> None:
    """Creates the folder, and moves files that an earlier version left in ``old``, once.

    A settings file that appears in ``old`` later is ignored: anyone who can reach ComfyUI can write
    one there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.name != "nt":
            folder.chmod(0o700)
        if os.path.lexists(folder / SETTINGS_FILE):
            if os.path.lexists(old / SETTINGS_FILE):
                log.warning(
                    "%s is not read, because the workers' settings are in %s. Delete it.",
                    old / SETTINGS_FILE,
                    folder / SETTINGS_FILE,
                )
            return
        _move(folder, old)
    except OSError as error:
        log.error(
            "Could not move the workers' settings from %s to %s, a folder that ComfyUI does not "
            "serve: %s. They are not used until they are moved.",
            old,
            folder,
            error,
        )


def _move(folder: Path, old: Path) -> None:
    before = old / SETTINGS_FILE
    if not before.is_file():
        write_atomically(folder / SETTINGS_FILE, _EMPTY)
    else:
        for path in [*old.glob(f"{NAME}_*.log"), *old.glob(f"{NAME}_*.pid")]:
            with contextlib.suppress(OSError):  # a log or PID file that is left behind does no harm
                shutil.move(path, folder / path.name)
                (folder / path.name).chmod(0o600)
        write_atomically(folder / SETTINGS_FILE, before.read_bytes())
        try:
            before.unlink()
        except OSError as error:
            log.error("%s is no longer read, but could not be deleted: %s.", before, error)
        log.warning("Moved the workers' settings from %s to %s.", before, folder / SETTINGS_FILE)


def _served(folder_paths: ModuleType) -> Iterable[Path]:
    yield Path(folder_paths.get_user_directory()) / "default"
    for name in ("get_output_directory", "get_input_directory", "get_temp_directory"):
        yield Path(getattr(folder_paths, name)())
    for paths, *_ in folder_paths.folder_names_and_paths.values():
        yield from map(Path, paths)


def _is_within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _own_settings() -> Path:
    """The operating system's folder for a user's settings."""
    home = Path.home()
    if os.name == "nt":
        base = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return base / NAME
