"""Adapters of the tiny model in the layouts of several trainers, and merged weights to compare."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from worker_binary import binary

Tensors = dict[str, torch.Tensor]

TOLERANCE = 1e-5
"""Largest difference of merged weights, relative to the largest weight of the tensor."""


def merge(model: Path, out: Path, *loras: str | Path, **options: object) -> Tensors:
    """The tensors that `ovis-worker merge` writes; it must succeed."""
    result = try_merge(model, out, *loras, **options)
    assert result.returncode == 0, result.stderr
    return load_file(out)


def try_merge(
    model: Path, out: Path, *loras: str | Path, **options: object
) -> subprocess.CompletedProcess[str]:
    """Runs `ovis-worker merge` until it ends, with any status."""
    named = [argument for lora in loras for argument in ("--lora", str(lora))]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    arguments = [str(binary()), "merge", str(model), str(out), *named, *flags]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120)


def inspect(path: Path, **model: object) -> dict:
    """What `ovis-worker inspect` reports about an adapter."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in model.items()]
    arguments = [str(binary()), "inspect", str(path), "--json", *flags]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def difference(found: Tensors, wanted: Tensors) -> float:
    """The largest difference of any tensor, relative to its largest value."""
    assert found.keys() == wanted.keys()
    errors = []
    for name, tensor in wanted.items():
        assert found[name].shape == tensor.shape, name
        assert found[name].dtype == tensor.dtype, name
        error = (found[name].double() - tensor.double()).abs().max()
        errors.append((error / tensor.double().abs().max()).item())
    return max(errors)


def changed(found: Tensors, base: Tensors) -> set[str]:
    """Names of the tensors that differ at all."""
    return {name for name, tensor in base.items() if not torch.equal(found[name], tensor)}


def linear_shapes(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Rows and columns of each linear layer, by the module's name."""
    linears = ((n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear))
    return {name: (linear.out_features, linear.in_features) for name, linear in linears}


def matrix_shapes(tensors: Tensors) -> dict[str, tuple[int, int]]:
    """Rows and columns of each matrix, by the name of its module."""
    matrices = ((name, t) for name, t in tensors.items() if t.ndim == 2)
    return {name.removesuffix(".weight"): tuple(tensor.shape) for name, tensor in matrices}


class Draw:
    """Random tensors from a seed."""

    def __init__(self, seed: int = 0):
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, scale: float = 0.3) -> torch.Tensor:
        return scale * torch.randn(shape, generator=self._generator)


def loras(shapes: dict[str, tuple[int, int]], rank: int = 4, seed: int = 0) -> dict[str, tuple]:
    """A and B of each module."""
    draw = Draw(seed)
    return {
        name: (draw(rank, columns), draw(rows, rank)) for name, (rows, columns) in shapes.items()
    }


def merged(base: Tensors, pairs: dict[str, tuple], scale: float = 1.0) -> Tensors:
    """Hu et al. 2021: `W + scale B A`."""
    result = dict(base)
    for name, (down, up) in pairs.items():
        weight = base[f"{name}.weight"]
        delta = scale * (up.double() @ down.double())
        result[f"{name}.weight"] = (weight.double() + delta).to(weight.dtype)
    return result


def write(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    """Writes an adapter."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def peft_names(pairs: dict[str, tuple], prefix: str = "", adapter: str = "") -> Tensors:
    """peft's and diffusers' names."""
    middle = f".{adapter}" if adapter else ""
    tensors = {}
    for name, (down, up) in pairs.items():
        tensors[f"{prefix}{name}.lora_A{middle}.weight"] = down
        tensors[f"{prefix}{name}.lora_B{middle}.weight"] = up
    return tensors


def kohya_names(pairs: dict[str, tuple], prefix: str, alpha: float | None = None) -> Tensors:
    """kohya's and LyCORIS's names."""
    tensors = {}
    for name, (down, up) in pairs.items():
        stem = prefix + name.replace(".", "_")
        tensors[f"{stem}.lora_down.weight"] = down
        tensors[f"{stem}.lora_up.weight"] = up
        if alpha is not None:
            tensors[f"{stem}.alpha"] = torch.tensor(alpha)
    return tensors


LAYOUTS = {
    "diffusers": lambda pairs: peft_names(pairs, "transformer."),
    "bare": lambda pairs: peft_names(pairs),
    "with the adapter's name": lambda pairs: peft_names(pairs, "", "default"),
    "peft": lambda pairs: peft_names(pairs, "base_model.model."),
    "ComfyUI": lambda pairs: peft_names(pairs, "diffusion_model."),
    "kohya": lambda pairs: kohya_names(pairs, "lora_unet_", alpha=4.0),
    "OneTrainer": lambda pairs: kohya_names(pairs, "lora_transformer_", alpha=4.0),
    "LyCORIS": lambda pairs: kohya_names(pairs, "lycoris_", alpha=4.0),
}
"""How trainers name a LoRA's tensors, given its pairs by diffusers' names of the layers."""
