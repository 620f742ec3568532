"""Ovis-Image's weights in ComfyUI's folders of models, and which of the files are missing.

ComfyUI has a list of folders for each kind of model: the one in its `models` folder and those of
``extra_model_paths.yaml``. The worker itself knows only a `models` folder, so files elsewhere are
named to it one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..texts import say

_FILES = "https://huggingface.co/Comfy-Org/{}/resolve/main/split_files/{}/{}"
_DEPTH = 3
"""Levels of folders that the worker searches, ``worker/src/checkpoint/comfy.rs``."""


@dataclass(frozen=True)
class File:
    """One file of the weights."""

    name: str
    folder: str
    """The kind of model as ComfyUI calls it, which is also the folder in `models`."""
    option: str
    """The worker's argument that names it."""
    pattern: re.Pattern
    """Names by which the worker takes a file for it, ``worker/src/checkpoint/choose.rs``."""
    gigabytes: float
    repository: str

    @property
    def url(self) -> str:
        """Where it can be downloaded."""
        return _FILES.format(self.repository, self.folder, self.name)


_OVIS = re.compile(r".*ovis.*\.(safetensors|sft|gguf)", re.IGNORECASE)
_AE = re.compile(r"ae\.(safetensors|sft)", re.IGNORECASE)

# The sizes are those of 7.37 and 1.72 billion parameters in bfloat16 (`geometry.rs`), and of
# FLUX.1's 83.8 million in float32.
FILES = (
    File("ovis_image_bf16.safetensors", "diffusion_models", "--transformer", _OVIS, 14.7,
         "Ovis-Image"),
    File("ovis_2.5.safetensors", "text_encoders", "--text-encoder", _OVIS, 3.4, "Ovis-Image"),
    File("ae.safetensors", "vae", "--vae", _AE, 0.3, "z_image_turbo"),
)  # fmt: skip

Folders = Mapping[str, Sequence[Path]]
"""ComfyUI's folders by kind of model, in the order in which ComfyUI searches them."""


def find(file: File, folders: Folders) -> Path | None:
    """The file, or one that the worker takes for it; the published name first."""
    found = [
        path
        for folder in folders.get(file.folder, ())
        for level in range(_DEPTH)
        for path in sorted(Path(folder).glob("*/" * level + "*"))
        if file.pattern.fullmatch(path.name) and path.is_file()
    ]
    return next((path for path in found if path.name == file.name), next(iter(found), None))


def elsewhere(models: Path, folders: Folders) -> dict[str, Path]:
    """By argument of the worker: the files that are outside of ComfyUI's `models` folder only."""
    inside = {
        kind: [path for path in paths if _is_within(path, models)]
        for kind, paths in folders.items()
    }
    found = {file.option: find(file, folders) for file in FILES if find(file, inside) is None}
    return {option: path for option, path in found.items() if path}


def missing(folders: Folders) -> list[str]:
    """A sentence for each file that is in none of the folders; none if there are no folders."""
    return [
        say(
            "{name} ({size:g} GB) is missing: download it from {url} into {folder}.",
            name=file.name,
            size=file.gigabytes,
            url=file.url,
            folder=folders[file.folder][0],
        )
        for file in FILES
        if folders.get(file.folder) and find(file, folders) is None
    ]


def _is_within(path: Path, folder: Path) -> bool:
    return Path(path).absolute().is_relative_to(Path(folder).absolute())
