"""A checkpoint is the same model in every layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from make_tiny_checkpoint import make
from real_worker import guided_latents

Arguments = dict[str, object]


def latents(out: Path, **model: object) -> torch.Tensor:
    return guided_latents(out, precision="f32", **model)


@pytest.fixture(scope="module")
def expected(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, bytes]:
    """The result of the diffusers layout: latents, and the image's bytes."""
    out = tmp_path_factory.mktemp("expected")
    return latents(out, model=tiny / "diffusers"), pixels(out)


def pixels(out: Path) -> bytes:
    with Image.open(out / "image.png") as image:
        return image.tobytes()


def diffusers_in_shards(tiny: Path, folder: Path) -> Arguments:
    make(folder, max_shard_size="100KB")
    model = folder / "diffusers"
    for part in ("transformer", "text_encoder"):
        assert len(list((model / part).glob("*.safetensors"))) > 2
    return {"model": model}


def original(tiny: Path, folder: Path) -> Arguments:
    return {"model": tiny / "original"}


def comfyui_models(tiny: Path, folder: Path) -> Arguments:
    return {"model": tiny / "comfyui" / "models"}


def comfyui(tiny: Path, folder: Path) -> Arguments:
    return {"model": tiny / "comfyui"}


def comfyui_files(tiny: Path, folder: Path) -> Arguments:
    models = tiny / "comfyui" / "models"
    return {
        "transformer": models / "diffusion_models" / "ovis_image_f32.safetensors",
        "text_encoder": models / "text_encoders" / "ovis_2.5.safetensors",
        "vae": models / "vae" / "ae.safetensors",
        "tokenizer": tiny / "diffusers" / "tokenizer",
    }


def original_files(tiny: Path, folder: Path) -> Arguments:
    """The original files; the tokenizer is found beside the text encoder."""
    return {
        "transformer": tiny / "original" / "ovis_image.safetensors",
        "text_encoder": tiny / "original" / "Ovis2.5-2B",
        "vae": tiny / "original" / "ae.safetensors",
    }


def parts_of_different_layouts(tiny: Path, folder: Path) -> Arguments:
    return {
        "model": tiny / "original",
        "transformer": tiny / "diffusers" / "transformer",
        "vae": tiny / "comfyui" / "models" / "vae" / "ae.safetensors",
        "tokenizer": tiny / "diffusers" / "tokenizer" / "tokenizer.json",
    }


def prefixes_of_whole_checkpoints(tiny: Path, folder: Path) -> Arguments:
    """The names of an all-in-one checkpoint, with norms spelled as in the original."""

    def renamed(path: Path, prefix: str, **replace: str) -> Path:
        tensors = load_file(path)
        for old, new in replace.items():
            tensors = {n.replace(f".{old}", f".{new}"): t for n, t in tensors.items()}
        save_file({prefix + n: t for n, t in tensors.items()}, folder / path.name)
        return folder / path.name

    models = tiny / "comfyui" / "models"
    transformer = models / "diffusion_models" / "ovis_image_f32.safetensors"
    return comfyui_files(tiny, folder) | {
        "transformer": renamed(transformer, "model.diffusion_model.", scale="weight"),
        "vae": renamed(models / "vae" / "ae.safetensors", "first_stage_model."),
        "tokenizer": tiny / "original" / "Ovis2.5-2B" / "vocab.json",
    }


def original_with_scale_norms(tiny: Path, folder: Path) -> Arguments:
    source = load_file(tiny / "original" / "ovis_image.safetensors")
    tensors = {name.replace("_norm.weight", "_norm.scale"): t for name, t in source.items()}
    assert tensors.keys() != source.keys()
    save_file(tensors, folder / "ovis.safetensors")
    return {"model": tiny / "original", "transformer": folder / "ovis.safetensors"}


@pytest.mark.parametrize(
    "layout",
    [
        diffusers_in_shards,
        original,
        comfyui_models,
        comfyui,
        comfyui_files,
        original_files,
        parts_of_different_layouts,
        prefixes_of_whole_checkpoints,
        original_with_scale_norms,
    ],
    ids=lambda layout: layout.__name__,
)
def test_same_latents_and_pixels(tiny: Path, tmp_path: Path, expected, layout) -> None:
    found = latents(tmp_path, **layout(tiny, tmp_path))
    assert torch.equal(found, expected[0])
    assert pixels(tmp_path) == expected[1]


def test_another_seed_makes_other_latents(tiny: Path, tmp_path: Path, expected) -> None:
    make(tmp_path, seed=1)
    assert not torch.equal(latents(tmp_path, model=tmp_path / "diffusers"), expected[0])
