"""The ComfyUI that the nodes run in: its folders, and its clients of workers."""

from __future__ import annotations

import functools
from pathlib import Path

import folder_paths

from ..settings import lookup, private_folder
from ..settings.config import ComfyFolders
from ..settings.weights import FILES
from ..worker.client import WorkerClient, client_for
from .inputs import worker_label


@functools.cache
def folders() -> ComfyFolders:
    """ComfyUI's folders, which do not change while it runs."""
    source = Path(folder_paths.__file__).parent
    return ComfyFolders(
        private=private_folder.folder_of(folder_paths),
        models=Path(folder_paths.models_dir),
        tokenizer=source / "comfy" / "text_encoders" / "qwen25_tokenizer",
        weights={
            kind: tuple(Path(path) for path in folder_paths.get_folder_paths(kind))
            for kind in {file.folder for file in FILES}
            if kind in folder_paths.folder_names_and_paths
        },
        user=Path(folder_paths.get_user_directory()) / "default",
        loras=tuple(
            Path(path)
            for path in (
                folder_paths.get_folder_paths("loras")
                if "loras" in folder_paths.folder_names_and_paths
                else ()
            )
            if Path(path).is_dir()
        ),
    )


def client_of(worker: object) -> WorkerClient:
    """The client for the value of a `worker` input, which is a label.

    Raises :class:`WorkerError` if the value is not a label, or if the label is unknown here.
    """
    return client_for(lookup.resolve(worker_label(worker), folders()))
