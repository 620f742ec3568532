"""ComfyUI's 8-bit files with a scale per weight are read as the numbers they represent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from real_worker import command, guided_latents
from reference import relative_error

Tensors = dict[str, torch.Tensor]
TRANSFORMER = "comfyui/models/diffusion_models/ovis_image_f32.safetensors"
TEXT_ENCODER = "comfyui/models/text_encoders/ovis_2.5.safetensors"


def quantized(source: Tensors, scale_name: str) -> tuple[Tensors, Tensors]:
    """The file with its blocks' matrices in E4M3, and a file with the numbers they represent."""
    file, plain = {}, {}
    for name, tensor in source.items():
        if tensor.ndim != 2 or "." not in name or not any(c.isdigit() for c in name):
            file[name] = plain[name] = tensor
            continue
        scale = tensor.abs().max() / 448
        layer = name.removesuffix(".weight")
        file[name] = (tensor / scale).to(torch.float8_e4m3fn)
        file[f"{layer}.{scale_name}"] = scale
        plain[name] = file[name].float() * scale
    assert file.keys() != plain.keys()
    return file, plain


def layers(file: Tensors) -> list[str]:
    kinds = {name: tensor.dtype for name, tensor in file.items()}
    return [n.removesuffix(".weight") for n, kind in kinds.items() if kind == torch.float8_e4m3fn]


def older(source: Tensors) -> tuple[Tensors, Tensors]:
    """The older format: `scale_weight`, scales of inputs, and a marker tensor."""
    file, plain = quantized(source, "scale_weight")
    file |= {f"{layer}.scale_input": torch.tensor(0.5) for layer in layers(file)}
    file["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    return file, plain


def newer(source: Tensors) -> tuple[Tensors, Tensors]:
    """The newer format: `weight_scale`, and each layer's format as JSON."""
    file, plain = quantized(source, "weight_scale")
    words = list(json.dumps({"format": "float8_e4m3fn"}).encode())
    file |= {
        f"{layer}.comfy_quant": torch.tensor(words, dtype=torch.uint8) for layer in layers(file)
    }
    file |= {f"{layer}.input_scale": torch.tensor(0.5) for layer in layers(file)}
    return file, plain


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
    [torch.ones(3), torch.ones((), dtype=torch.uint8), torch.ones(2, 2)],
    ids=["three", "uint8", "blocks"],
)
def test_scales_of_another_kind_are_refused(tiny: Path, tmp_path: Path, scale) -> None:
    file, _ = newer(load_file(tiny / TRANSFORMER))
    layer = layers(file)[0]
    file[f"{layer}.weight_scale"] = scale
    save_file(file, tmp_path / "fp8.safetensors")
    result = command("inspect", transformer=tmp_path / "fp8.safetensors")
    assert result.returncode == 1
    error = result.stderr.splitlines()[0]
    assert f"`{layer}.weight_scale`" in error and "not by one F32" in error


def test_a_scale_without_its_weight_is_unknown(tiny: Path, tmp_path: Path) -> None:
    file = load_file(tiny / TRANSFORMER)
    file["double_blocks.0.other.weight_scale"] = torch.tensor(1.0)
    save_file(file, tmp_path / "odd.safetensors")
    result = command("inspect", transformer=tmp_path / "odd.safetensors")
    assert result.returncode == 1
    assert "unknown" in result.stderr and "double_blocks.0.other.weight_scale" in result.stderr
