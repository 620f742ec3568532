"""`inspect` identifies files in every layout, incomplete sets, and files among others."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from diffusers import OvisImageTransformer2DModel
from safetensors.torch import load_file, save_file

from fake_files import flux_dev, write_hollow
from make_tiny_checkpoint import make
from real_worker import binary, command

MODEL_PARTS = ("transformer", "text_encoder", "vae")


def inspect(**arguments: object) -> dict:
    """The report on files that must be accepted."""
    result = command("inspect", json=True, **arguments)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def stored(*files: Path) -> tuple[int, int, int]:
    """Tensors, numbers and bytes in safetensors files."""
    tensors = [tensor for file in files for tensor in load_file(file).values()]
    return (
        len(tensors),
        sum(tensor.numel() for tensor in tensors),
        sum(tensor.nbytes for tensor in tensors),
    )


LAYOUTS = {
    "diffusers": "diffusers",
    "original": "original",
    "comfyui": "comfyui",
    "comfyui/models": "comfyui",
}


@pytest.mark.parametrize(("path", "layout"), LAYOUTS.items())
def test_every_layout_is_the_same_model(tiny: Path, path: str, layout: str) -> None:
    report = inspect(model=tiny / path)
    first = inspect(model=tiny / "diffusers")
    assert report["layout"] == layout
    assert report["missing"] == [] and report["skipped"] == []
    for part in MODEL_PARTS:
        for field in ("geometry", "parameters", "bytes", "dtypes"):
            assert report[part][field] == first[part][field], (part, field)
        assert report[part]["dtypes"] == ["F32"]
        assert Path(report[part]["path"]).is_relative_to(tiny / path)
    assert report["parameters"] == sum(report[part]["parameters"] for part in MODEL_PARTS)
    assert report["bytes"] == 4 * report["parameters"]
    assert report["tokenizer"]["vocabulary"] == first["tokenizer"]["vocabulary"]


def test_the_numbers_are_those_of_the_files(tiny: Path, reference) -> None:
    report = inspect(model=tiny / "diffusers")
    for part in MODEL_PARTS:
        (file,) = (tiny / "diffusers" / part).glob("*.safetensors")
        found = report[part]
        assert (found["tensors"], found["parameters"], found["bytes"]) == stored(file)
        assert (found["files"], found["ignored"]) == (1, [])
    pipeline = reference.pipeline
    assert report["tokenizer"]["vocabulary"] == len(pipeline.tokenizer)
    text, vae = pipeline.text_encoder.config, pipeline.vae.config
    transformer: OvisImageTransformer2DModel = pipeline.transformer
    assert report["transformer"]["geometry"] == {
        "in_channels": 64,
        "context_dim": text.hidden_size,
        "hidden_size": transformer.inner_dim,
        "num_heads": transformer.config.num_attention_heads,
        "mlp_hidden": 4 * transformer.inner_dim,
        "depth_double": transformer.config.num_layers,
        "depth_single": transformer.config.num_single_layers,
        "axes_dim": list(transformer.config.axes_dims_rope),
        "theta": 10000.0,
    }
    assert report["text_encoder"]["geometry"] == {
        "vocab_size": text.vocab_size,
        "hidden_size": text.hidden_size,
        "intermediate_size": text.intermediate_size,
        "num_layers": text.num_hidden_layers,
        "num_heads": text.num_attention_heads,
        "num_kv_heads": text.num_key_value_heads,
        "head_dim": text.head_dim,
        "rope_theta": 1_000_000.0,
        "rms_norm_eps": text.rms_norm_eps,
    }
    assert report["vae"]["geometry"] == {
        "block_channels": list(vae.block_out_channels),
        "layers_per_block": vae.layers_per_block,
        "latent_channels": vae.latent_channels,
        "norm_groups": vae.norm_num_groups,
        "scaling_factor": vae.scaling_factor,
        "shift_factor": vae.shift_factor,
        "native_size": vae.sample_size,
    }


def test_shards_and_bf16(tmp_path: Path) -> None:
    make(tmp_path, torch.bfloat16, max_shard_size="200KB")
    report = inspect(model=tmp_path / "diffusers")
    for part in MODEL_PARTS:
        files = list((tmp_path / "diffusers" / part).glob("*.safetensors"))
        found = report[part]
        assert found["files"] == len(files)
        assert (found["tensors"], found["parameters"], found["bytes"]) == stored(*files)
        assert found["dtypes"] == ["BF16"]
    assert report["transformer"]["files"] > 1


def test_the_vision_tower_is_listed_as_ignored(tiny: Path) -> None:
    ovis = tiny / "original" / "Ovis2.5-2B"
    found = inspect(model=tiny / "original")["text_encoder"]
    names = [name for file in ovis.glob("*.safetensors") for name in load_file(file)]
    ignored = {extra["name"]: extra["tensors"] for extra in found["ignored"]}
    assert ignored == {
        group + "*": sum(name.startswith(group) for name in names)
        for group in ("llm.lm_head.", "visual_tokenizer.", "vte.")
    }
    assert found["tensors"] + sum(ignored.values()) == len(names)
    assert found["bytes"] + sum(e["bytes"] for e in found["ignored"]) == sum(
        stored(file)[2] for file in ovis.glob("*.safetensors")
    )


def test_as_text(tiny: Path) -> None:
    report = inspect(model=tiny / "original")
    result = command("inspect", model=tiny / "original")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("ovis_image (original layout): ")
    for title, part in zip(("transformer", "text encoder", "VAE"), MODEL_PARTS, strict=True):
        assert f"{title}: {report[part]['path']}" in lines
    assert "  hidden_size: 64" in lines
    assert "  axes_dim: 4, 14, 14" in lines
    assert any(line.startswith("  ignored: visual_tokenizer.*, ") for line in lines)
    assert f"tokenizer: {report['tokenizer']['path']}" in lines
    assert lines[-1] == "missing: nothing"


def test_the_path_may_stand_alone(tiny: Path) -> None:
    model = tiny / "diffusers"
    alone = subprocess.run([binary(), "inspect", model], capture_output=True, text=True)
    assert alone.returncode == 0
    assert alone.stdout == command("inspect", model=model).stdout


@pytest.mark.parametrize("absent", MODEL_PARTS)
def test_a_part_may_be_absent(tiny: Path, tmp_path: Path, absent: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny / "diffusers", model, ignore=shutil.ignore_patterns(absent))
    report = inspect(model=model)
    assert report[absent] is None
    assert report["missing"] == [absent.replace("_", " ").replace("vae", "VAE")]
    assert all(report[part] for part in MODEL_PARTS if part != absent)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("comfyui/models/diffusion_models/ovis_image_f32.safetensors", "transformer"),
        ("comfyui/models/text_encoders/ovis_2.5.safetensors", "text_encoder"),
        ("original/ae.safetensors", "vae"),
        ("diffusers/transformer", "transformer"),
        ("original/Ovis2.5-2B", "text_encoder"),
        ("diffusers/vae", "vae"),
    ],
)
def test_one_part_alone(tiny: Path, path: str, part: str) -> None:
    report = inspect(model=tiny / path)
    assert report["layout"] == "files"
    assert [name for name in MODEL_PARTS if report[name]] == [part]
    assert len(report["missing"]) == (2 if part == "text_encoder" else 3)


def test_other_models_in_comfyuis_folders_are_left_aside(tiny: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny / "comfyui" / "models", models)
    flux = write_hollow(models / "diffusion_models" / "flux1-dev.safetensors", flux_dev())
    clip = models / "text_encoders" / "clip_l.safetensors"
    save_file({"text_model.embeddings.token_embedding.weight": torch.zeros(8, 8)}, clip)
    report = inspect(model=models)
    assert Path(report["transformer"]["path"]).name == "ovis_image_f32.safetensors"
    reasons = {Path(file["path"]): file["reason"] for file in report["skipped"]}
    assert reasons.keys() == {flux, clip}
    assert "FLUX.1-dev" in reasons[flux] and "guidance_in.in_layer" in reasons[flux]
    text = command("inspect", model=models).stdout
    assert f"left aside: {reasons[flux]}" in text

    (models / "diffusion_models" / "ovis_image_f32.safetensors").unlink()
    without = inspect(model=models)
    assert without["transformer"] is None
    assert "transformer" in without["missing"]
