"""Where settings, logs and notes of processes lie: a folder that ComfyUI serves to nobody.

ComfyUI's own user-data routes read and write everything in ``user/default``. Settings
name a program to start and hold a token, so they lie in ComfyUI's system user directory,
``user/__ovis_worker``, which these routes refuse. Older ComfyUIs know no system users,
but serve no user of that name either, so the folder is the same there.
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

from ..files import replace
from .file import SETTINGS_FILE

log = logging.getLogger("ovis-worker")

NAME = "ovis_worker"
_EMPTY = json.dumps({"workers": {}}).encode()


def folder_of(folder_paths: ModuleType) -> Path:
    """The folder for a ComfyUI's ``folder_paths`` that lies in none of those it serves."""
    candidates = []
    if hasattr(folder_paths, "get_system_user_directory"):
        candidates.append(Path(folder_paths.get_system_user_directory(NAME)))
    candidates.append(Path(folder_paths.get_user_directory()) / f"__{NAME}")
    served = list(_served(folder_paths))
    for candidate in candidates:
        if not any(_is_within(candidate, folder) for folder in served):
            return candidate
    # The output folder may be the one that all others lie in.
    return _own_settings()


def prepare(folder: Path, old: Path) -> None:
    """Makes the folder, and moves what an earlier version left in ``old``, once.

    A settings file that appears in ``old`` later is not believed: anyone who reaches
    ComfyUI can write one there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.name != "nt":
            folder.chmod(0o700)
        if os.path.lexists(folder / SETTINGS_FILE):
            if os.path.lexists(old / SETTINGS_FILE):
                log.warning(
                    "%s is not read: the workers' settings are in %s. Remove it.",
                    old / SETTINGS_FILE,
                    folder / SETTINGS_FILE,
                )
            return
        _move(folder, old)
    except OSError as error:
        log.error(
            "The workers' settings cannot be moved from %s to %s, which no route of ComfyUI "
            "serves: %s. They are not used until that is done.",
            old,
            folder,
            error,
        )


def _move(folder: Path, old: Path) -> None:
    before = old / SETTINGS_FILE
    if not before.is_file():
        replace(folder / SETTINGS_FILE, _EMPTY)
    else:
        for path in [*old.glob(f"{NAME}_*.log"), *old.glob(f"{NAME}_*.pid")]:
            with contextlib.suppress(OSError):  # a log that stays is no harm
                shutil.move(path, folder / path.name)
                (folder / path.name).chmod(0o600)
        replace(folder / SETTINGS_FILE, before.read_bytes())
        try:
            before.unlink()
        except OSError as error:
            log.error("%s is not read any more and cannot be removed: %s.", before, error)
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
    """The operating system's place for a user's settings."""
    home = Path.home()
    if os.name == "nt":
        base = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return base / NAME
