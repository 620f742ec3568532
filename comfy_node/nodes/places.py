"""This ComfyUI: its folders, and the workers that it knows."""

from __future__ import annotations

import functools
from pathlib import Path

import folder_paths

from ..settings import lookup, private_folder
from ..settings.config import Places
from ..worker.client import WorkerClient, client_for
from .inputs import worker_label


@functools.cache
def places() -> Places:
    """This ComfyUI's folders, which stay as they are while it runs."""
    source = Path(folder_paths.__file__).parent
    return Places(
        private=private_folder.folder_of(folder_paths),
        models=Path(folder_paths.models_dir),
        tokenizer=source / "comfy" / "text_encoders" / "qwen25_tokenizer",
        user=Path(folder_paths.get_user_directory()) / "default",
    )


def client_of(worker: object) -> WorkerClient:
    """The client for what a `worker` input was given: a label, and nothing secret.

    Raises :class:`WorkerError` for anything else, and for a label that means nothing here.
    """
    return client_for(lookup.resolve(worker_label(worker), places()))
