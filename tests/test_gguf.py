"""GGUF files are read as the `gguf` package reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file, save_file

from gguf_files import (
    ENDS,
    TEXT_ENCODER,
    TRANSFORMER,
    llama_named,
    matrices,
    same_picture,
    write,
)
from real_worker import command, guided_latents


@pytest.mark.parametrize("kind", ["BF16", "Q8_0", "Q5_1"])
def test_a_transformer_by_gguf(wide: Path, tmp_path: Path, kind: str) -> None:
    source = load_file(wide / TRANSFORMER)
    file = tmp_path / "ovis.gguf"
    plain = write(file, source, matrices(Kind[kind]), arch="flux")
    same_picture(tmp_path, wide, "transformer", file, plain)


def test_a_transformer_as_stable_diffusion_cpp_has_it(wide: Path, tmp_path: Path) -> None:
    """Without metadata, with a prefix, vectors in BF16, and norms called weight and quantized."""
    source = load_file(wide / TRANSFORMER)

    def kind_of(name: str, tensor: torch.Tensor) -> Kind:
        if "norm" in name:
            return Kind.Q8_0
        return Kind.BF16 if tensor.ndim == 1 or name.startswith(ENDS) else Kind.Q4_0

    plain = write(tmp_path / "values.gguf", source, kind_of)
    renamed = {
        "model.diffusion_model." + n.replace("norm.scale", "norm.weight"): t
        for n, t in source.items()
    }
    file = tmp_path / "ovis.gguf"
    write(file, renamed, lambda n, t: kind_of(n.removeprefix("model.diffusion_model."), t))
    same_picture(tmp_path, wide, "transformer", file, plain)


def test_an_unknown_architecture_and_the_original_names(wide: Path, tmp_path: Path) -> None:
    source = load_file(wide / "original" / "ovis_image.safetensors")
    file = tmp_path / "ovis.gguf"
    plain = write(file, source, matrices(Kind.Q8_0), arch="ovis")
    same_picture(tmp_path, wide, "transformer", file, plain)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_a_precision_quantizes_the_large_matrices(wide: Path, tmp_path: Path, kind: str) -> None:
    """Those of the blocks, without the modulations, when the model is loaded."""
    source = load_file(wide / TRANSFORMER)

    def kind_of(name: str, tensor: torch.Tensor) -> Kind:
        is_large = name.startswith(("double_blocks", "single_blocks")) and "mod" not in name
        return matrices(Kind[kind])(name, tensor) if is_large else Kind.F32

    plain = write(tmp_path / "values.gguf", source, kind_of)
    save_file(plain, tmp_path / "plain.safetensors")
    model = wide / "diffusers"
    ours = guided_latents(tmp_path, model=model, precision=kind)
    wanted = guided_latents(
        tmp_path, model=model, transformer=tmp_path / "plain.safetensors", precision="f32"
    )
    assert torch.equal(ours, wanted)
    assert not torch.equal(ours, guided_latents(tmp_path, model=model, precision="f32"))


@pytest.mark.parametrize("kind", ["F16", "Q4_0"])
def test_a_text_encoder_by_gguf(wide: Path, tmp_path: Path, kind: str) -> None:
    source = load_file(wide / TEXT_ENCODER)
    named = llama_named(source)
    file = tmp_path / "qwen3.gguf"
    # The unused output, which llama.cpp's files may have.
    extra = named | {"output.weight": named["token_embd.weight"] * 2}
    stored = write(file, extra, matrices(Kind[kind]), arch="qwen3")
    plain = {name: stored[llama] for name, llama in zip(source, named, strict=True)}
    same_picture(tmp_path, wide, "text_encoder", file, plain)


def test_files_in_comfyui_folders(wide: Path, tmp_path: Path) -> None:
    shutil.copytree(wide / "comfyui", tmp_path / "ComfyUI")
    models = tmp_path / "ComfyUI" / "models"
    for part, folder, rename in (
        (TRANSFORMER, "unet", lambda tensors: tensors),
        (TEXT_ENCODER, "clip", llama_named),
    ):
        old = tmp_path / "ComfyUI" / Path(part).relative_to("comfyui")
        (models / folder).mkdir()
        write(models / folder / "ovis-Q8_0.gguf", rename(load_file(old)), matrices(Kind.Q8_0))
    # The safetensors files are the better match, until they are gone.
    result = command("inspect", model=models, json=True)
    report = json.loads(result.stdout)
    assert report["transformer"]["dtypes"] == ["F32"]
    assert [Path(skipped["path"]).name for skipped in report["skipped"]] == ["ovis-Q8_0.gguf"] * 2
    for part in (TRANSFORMER, TEXT_ENCODER):
        (tmp_path / "ComfyUI" / Path(part).relative_to("comfyui")).unlink()
    report = json.loads(command("inspect", model=models, json=True).stdout)
    assert report["missing"] == []
    for part in ("transformer", "text_encoder"):
        assert report[part]["dtypes"][0] == "Q8_0"
        assert 8.5 < report[part]["bits_per_weight"] < 10
    assert "Q8_0, F32 (" in command("inspect", model=models).stdout
    guided_latents(tmp_path, model=models)


def test_types_that_are_not_decoded_are_named(wide: Path, tmp_path: Path) -> None:
    source = load_file(wide / TRANSFORMER)
    file = tmp_path / "ovis.gguf"
    writer = gguf.GGUFWriter(file, "flux")
    for name, tensor in source.items():
        data = tensor.numpy()
        if name == "double_blocks.0.img_attn.proj.weight":
            blocks = np.zeros((data.shape[0], data.shape[1] // 256 * 66), np.uint8)
            writer.add_tensor(name, blocks, raw_dtype=Kind.IQ2_XXS)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    result = command("inspect", transformer=file)
    assert result.returncode == 1
    assert "stored as IQ2_XXS (type 16), which cannot be loaded" in result.stderr
    assert "Q8_0, Q2_K to Q6_K" in result.stderr
