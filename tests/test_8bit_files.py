"""ComfyUI's 8-bit files are read as the numbers they represent."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from real_worker import command, guided_latents
from reference import relative_error

Tensors = dict[str, torch.Tensor]
TRANSFORMER = "comfyui/models/diffusion_models/ovis_image_f32.safetensors"
TEXT_ENCODER = "comfyui/models/text_encoders/ovis_2.5.safetensors"


@dataclass(frozen=True)
class Kind:
    """A way to store a matrix in a byte a value."""

    dtype: torch.dtype
    largest: float
    mark: dict[str, object]
    by_rows: bool = False
    group: int = 0

    def quantize(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The stored numbers, their scale, and the numbers that both represent."""
        rotation = regular_hadamard(self.group) if self.group else torch.eye(1)
        groups = weight.unflatten(1, (-1, len(rotation)))
        rotated = (groups @ rotation).flatten(1)
        magnitudes = rotated.abs()
        most = magnitudes.amax(1, keepdim=True) if self.by_rows else magnitudes.max()
        scale = most / self.largest
        numbers = rotated / scale
        stored = (numbers if self.dtype.is_floating_point else numbers.round()).to(self.dtype)
        values = (stored.float() * scale).unflatten(1, (-1, len(rotation))) @ rotation
        return stored, scale, values.flatten(1)


def regular_hadamard(size: int) -> torch.Tensor:
    """The rotation that stable-diffusion.cpp's docs/int8_convrot.md defines."""
    h4 = torch.ones(4, 4) - 2 * torch.eye(4).flip(1)
    matrix = torch.eye(1)
    while len(matrix) < size:
        matrix = torch.kron(matrix, h4 / 2)
    return matrix


E4M3 = Kind(torch.float8_e4m3fn, 448, {"format": "float8_e4m3fn"})
INT8 = {"format": "int8_tensorwise"}
KINDS = {
    "e4m3": E4M3,
    "e4m3 rows": replace(E4M3, by_rows=True),
    "e4m3 rows by name": replace(E4M3, by_rows=True, mark={"format": "float8_e4m3fn_rowwise"}),
    "e5m2": Kind(torch.float8_e5m2, 57344, {"format": "float8_e5m2"}),
    "int8": Kind(torch.int8, 127, INT8),
    "int8 rows": Kind(torch.int8, 127, INT8 | {"per_row": True}, by_rows=True),
    "int8 rotated": Kind(
        torch.int8, 127, INT8 | {"convrot": True, "convrot_groupsize": 16}, by_rows=True, group=16
    ),
}


def quantized(source: Tensors, scale_name: str, kind: Kind = E4M3) -> tuple[Tensors, Tensors]:
    """The file with its blocks' matrices in 8 bits, and a file with the numbers they represent."""
    file, plain = {}, {}
    for name, tensor in source.items():
        if tensor.ndim != 2 or "." not in name or not any(c.isdigit() for c in name):
            file[name] = plain[name] = tensor
            continue
        layer = name.removesuffix(".weight")
        file[name], file[f"{layer}.{scale_name}"], plain[name] = kind.quantize(tensor)
    assert file.keys() != plain.keys()
    return file, plain


def layers(file: Tensors) -> list[str]:
    bytes_only = {name: tensor for name, tensor in file.items() if tensor.itemsize == 1}
    return [n.removesuffix(".weight") for n in bytes_only if n.endswith(".weight")]


def older(source: Tensors) -> tuple[Tensors, Tensors]:
    """The older format: `scale_weight`, scales of inputs, and a marker tensor."""
    file, plain = quantized(source, "scale_weight")
    file |= {f"{layer}.scale_input": torch.tensor(0.5) for layer in layers(file)}
    file["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    return file, plain


def newer(source: Tensors, kind: Kind = E4M3) -> tuple[Tensors, Tensors]:
    """The newer format: `weight_scale`, and each layer's format as JSON."""
    file, plain = quantized(source, "weight_scale", kind)
    file |= {f"{layer}.comfy_quant": mark(kind.mark) for layer in layers(file)}
    file |= {f"{layer}.input_scale": torch.tensor(0.5) for layer in layers(file)}
    return file, plain


def mark(words: dict[str, object]) -> torch.Tensor:
    return torch.tensor(list(json.dumps(words).encode()), dtype=torch.uint8)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."], ids=["bare", "prefixed"])
@pytest.mark.parametrize("form", [older, newer], ids=lambda form: form.__name__)
def test_the_numbers_are_those_of_the_plain_file(
    tiny: Path, tmp_path: Path, form, prefix: str
) -> None:
    file, plain = form(load_file(tiny / TRANSFORMER))
    files = {"fp8": tmp_path / "fp8.safetensors", "plain": tmp_path / "plain.safetensors"}
    save_file({prefix + name: tensor for name, tensor in file.items()}, files["fp8"])
    save_file(plain, files["plain"])
    model = tiny / "diffusers"
    ours = guided_latents(tmp_path, model=model, transformer=files["fp8"], precision="f32")
    wanted = guided_latents(tmp_path, model=model, transformer=files["plain"], precision="f32")
    assert torch.equal(ours, wanted)
    # They differ from the numbers before quantization.
    exact = guided_latents(tmp_path, model=model, precision="f32")
    assert 1e-4 < relative_error(ours, exact) < 0.2
    # In bf16 the product with the scale is rounded once.
    ours = guided_latents(tmp_path, model=model, transformer=files["fp8"], precision="bf16")
    wanted = guided_latents(tmp_path, model=model, transformer=files["plain"], precision="bf16")
    assert torch.equal(ours, wanted)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("where", ["tensors", "header"])
def test_every_kind(tiny: Path, tmp_path: Path, kind: Kind, where: str) -> None:
    """A kind is marked beside each weight, or for all weights in the file's header."""
    file, plain = newer(load_file(tiny / TRANSFORMER), kind)
    metadata = {}
    if where == "header":
        marks = [layer for layer in layers(file) if file.pop(f"{layer}.comfy_quant") is not None]
        metadata["_quantization_metadata"] = json.dumps(
            {"format_version": "1.0", "layers": dict.fromkeys(marks, kind.mark)}
        )
    save_file(file, tmp_path / "8bit.safetensors", metadata)
    save_file(plain, tmp_path / "plain.safetensors")
    made = [
        guided_latents(
            tmp_path, model=tiny / "diffusers", transformer=tmp_path / f"{name}.safetensors"
        )
        for name in ("8bit", "plain")
    ]
    # Sums of a rotation are taken in another order.
    assert relative_error(*made) < (1e-5 if kind.group else 1e-30)


@pytest.mark.parametrize(
    ("kind", "words", "told"),
    [
        ("e4m3", {"format": "nvfp4"}, "is stored as nvfp4, which cannot be loaded"),
        ("e4m3", {"format": "float8_e4m3fn_blockwise"}, "is stored as float8_e4m3fn_blockwise,"),
        ("e4m3", INT8, "is marked as int8_tensorwise, and it is F8_E4M3"),
        (
            "int8",
            INT8 | {"convrot": True, "convrot_groupsize": 12},
            "in groups of 12, which are not",
        ),
        ("int8", {"scale": 1}, "is not such JSON (missing field `format`"),
    ],
)
def test_marks_that_cannot_be_followed(
    tiny: Path, tmp_path: Path, kind: str, words: dict[str, object], told: str
) -> None:
    file, _ = newer(load_file(tiny / TRANSFORMER), KINDS[kind])
    layer = layers(file)[0]
    file[f"{layer}.comfy_quant"] = mark(words)
    save_file(file, tmp_path / "8bit.safetensors")
    result = command("inspect", transformer=tmp_path / "8bit.safetensors")
    assert result.returncode == 1
    error = result.stderr.splitlines()[0]
    assert f"`{layer}." in error and told in error


def test_whole_numbers_without_a_scale_are_refused(tiny: Path, tmp_path: Path) -> None:
    file = load_file(tiny / TRANSFORMER)
    file["double_blocks.0.img_attn.qkv.weight"] = file["double_blocks.0.img_attn.qkv.weight"].char()
    save_file(file, tmp_path / "bare.safetensors")
    result = command("inspect", transformer=tmp_path / "bare.safetensors")
    assert result.returncode == 1
    assert "is stored as I8, which cannot be loaded" in result.stderr.splitlines()[0]


def test_a_text_encoder_too(tiny: Path, tmp_path: Path) -> None:
    file, plain = older(load_file(tiny / TEXT_ENCODER))
    save_file(file, tmp_path / "fp8.safetensors")
    save_file(plain, tmp_path / "plain.safetensors")
    made = [
        guided_latents(
            tmp_path, model=tiny / "diffusers", text_encoder=tmp_path / f"{name}.safetensors"
        )
        for name in ("fp8", "plain")
    ]
    assert torch.equal(*made)


def test_what_inspect_says(tiny: Path, tmp_path: Path) -> None:
    file, _ = newer(load_file(tiny / TRANSFORMER))
    save_file(file, tmp_path / "fp8.safetensors")
    result = command("inspect", transformer=tmp_path / "fp8.safetensors", json=True)
    assert result.returncode == 0, result.stderr
    assert "F8_E4M3" in result.stdout
    result = command("inspect", transformer=tmp_path / "fp8.safetensors")
    assert "F8_E4M3" in result.stdout


@pytest.mark.parametrize(
    "scale",
    [torch.ones(3), torch.ones((), dtype=torch.uint8), torch.ones(2, 2), torch.tensor(torch.nan)],
    ids=["three", "uint8", "blocks", "nan"],
)
def test_scales_of_another_kind_are_refused(tiny: Path, tmp_path: Path, scale) -> None:
    file, _ = newer(load_file(tiny / TRANSFORMER))
    layer = layers(file)[0]
    file[f"{layer}.weight_scale"] = scale
    save_file(file, tmp_path / "fp8.safetensors")
    result = command("inspect", transformer=tmp_path / "fp8.safetensors")
    assert result.returncode == 1
    error = result.stderr.splitlines()[0]
    told = "has the value NaN" if scale.isnan().any() else "not by one F32 or one for each row"
    assert f"`{layer}.weight_scale`" in error and told in error


def test_a_scale_without_its_weight_is_unknown(tiny: Path, tmp_path: Path) -> None:
    file = load_file(tiny / TRANSFORMER)
    file["double_blocks.0.other.weight_scale"] = torch.tensor(1.0)
    save_file(file, tmp_path / "odd.safetensors")
    result = command("inspect", transformer=tmp_path / "odd.safetensors")
    assert result.returncode == 1
    assert "unknown" in result.stderr and "double_blocks.0.other.weight_scale" in result.stderr
