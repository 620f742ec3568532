"""ComfyUI's *Free model and node cache* also frees the worker on this machine."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

import comfy.model_management

from ..settings import lookup
from ..settings.config import ComfyFolders, WorkerConfig
from ..texts import WorkerError
from ..worker.free import free_all

log = logging.getLogger("ovis-worker")

_MARK = "_frees_ovis_workers"


def install(folders: Callable[[], ComfyFolders]) -> None:
    """Has ComfyUI's ``unload_all_models`` unload the workers' idle models too, once.

    ComfyUI calls it for its route ``/free``, and when its own models run out of memory. Its own
    part comes first and is not changed; the workers are asked on a thread of their own.
    """
    original = getattr(comfy.model_management, "unload_all_models", None)
    if original is None or hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def unload_all_models(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        threading.Thread(target=_free, args=(folders,), name="ovis-worker free").start()
        return result

    setattr(unload_all_models, _MARK, True)
    comfy.model_management.unload_all_models = unload_all_models


def _free(folders: Callable[[], ComfyFolders]) -> None:
    """Asks the workers whose settings allow it. Nothing that goes wrong reaches ComfyUI."""
    try:
        asyncio.run(free_all(_configs(folders())))
    except Exception:
        log.exception("The workers could not be asked to free their memory.")


def _configs(folders: ComfyFolders) -> list[WorkerConfig]:
    found = []
    for label in lookup.labels(folders):
        try:
            config = lookup.resolve(label, folders)
        except WorkerError:
            continue  # it is reported when the worker is used
        if config.frees:
            found.append(config)
    return found
