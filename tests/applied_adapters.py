"""Latents of models with adapters, applied by the worker or merged into files by others."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from adapter_files import Tensors
from real_worker import flags
from worker_binary import binary

Values = dict[str, object]


def run(
    out: Path, loras: Sequence[str | Path] = (), **values: object
) -> subprocess.CompletedProcess:
    """`ovis-worker generate` of a small picture with guidance, ended with any status."""
    repeated = {n: v for n, v in values.items() if isinstance(v, list)}
    single = {n: v for n, v in values.items() if n not in repeated}
    repeated["lora"] = list(loras)
    lists = [text for n, many in repeated.items() for v in many for text in flags(**{n: v})]
    picture = {
        "prompt": "a red fox",
        "width": 64,
        "height": 48,
        "steps": 2,
        "cfg": 3,
        "device": "cpu",
        "precision": "f32",
        "out": out / "image.png",
        "latents_out": out / "latents.safetensors",
    }
    arguments = [str(binary()), "generate", *flags(**(picture | single)), *lists]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300)


def latents(out: Path, loras: Sequence[str | Path] = (), **values: object) -> torch.Tensor:
    """The latents of that picture."""
    result = run(out, loras, **values)
    assert result.returncode == 0, result.stderr
    return load_file(out / "latents.safetensors")["latents"]


def of_weights(
    out: Path, tensors: Tensors, part: str = "transformer", **values: object
) -> torch.Tensor:
    """The latents of a model of which one part has these weights."""
    file = out / f"{part}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return latents(out, **values, **{part: file})
