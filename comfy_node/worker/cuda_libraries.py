"""The folders of CUDA's libraries in the Python that runs ComfyUI.

PyTorch for CUDA 13 depends on NVIDIA's packages, which put their libraries into ``nvidia/cu13/lib``
and, for cuDNN, ``nvidia/cudnn/lib``. The worker uses the same libraries.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

VARIABLE = "LD_LIBRARY_PATH"


def library_folders(packages: Iterable[str] | None = None) -> list[str]:
    """The folders of CUDA 13's libraries among the folders of Python packages.

    cuDNN for CUDA 12 has the same folder and file names as cuDNN for CUDA 13, and needs CUDA 12's
    libraries, so its folder only counts if the package for CUDA 13 is installed.
    """
    found = []
    for folder in map(Path, sys.path if packages is None else packages):
        cuda, cudnn = folder / "nvidia/cu13/lib", folder / "nvidia/cudnn/lib"
        try:
            if cuda.is_dir():
                found.append(str(cuda))
            if cudnn.is_dir() and any(folder.glob("nvidia_cudnn_cu13-*.dist-info")):
                found.append(str(cudnn))
        except OSError:
            continue  # a folder that this user may not read
    return list(dict.fromkeys(found))


def with_libraries(
    environ: Mapping[str, str], packages: Iterable[str] | None = None
) -> dict[str, str]:
    """An environment in which the worker finds the libraries, after those it already names."""
    environ = dict(environ)
    if sys.platform.startswith("linux"):
        known = [part for part in environ.get(VARIABLE, "").split(os.pathsep) if part]
        folders = [*known, *library_folders(packages)]
        if folders:
            environ[VARIABLE] = os.pathsep.join(dict.fromkeys(folders))
    return environ
