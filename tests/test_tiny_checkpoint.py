"""The tiny checkpoint has the layouts and values that it should have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import load_file
from transformers import AutoTokenizer

from make_tiny_checkpoint import make
from tiny.tokenizer import PREFIX_POSITIONS, SYSTEM_SENTENCE

PREFIX = (
    "<|im_start|> user \n Describe ~the ~image ~by ~detailing ~the ~color , ~quantity , ~text , "
    "~shape , ~size , ~texture , ~spatial ~relationships ~of ~the ~objects ~and ~background"
)
ENDING = "<|im_end|> \n <|im_start|> assistant \n <think> \n\n </think> \n\n"
PROMPTS = ["a red fox", "", '"HELLO" zürich 雪', "\n", "12 cats don't"]


def pieces(text: str) -> list[str]:
    return [piece.replace("~", " ") for piece in text.split(" ")]


def test_same_arguments_give_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    make(tmp_path)
    files = sorted(path.relative_to(tiny) for path in tiny.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert all((tiny / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_template_is_cut_as_qwen3_cuts_it(reference, prompt: str) -> None:
    message = reference.pipeline._get_messages(prompt)[0]
    assert message == (
        f"<|im_start|>user\n{SYSTEM_SENTENCE}{prompt}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    tokenizer = reference.pipeline.tokenizer
    tokens = [tokenizer.decode([token]) for token in tokenizer(message).input_ids]
    assert tokens[: PREFIX_POSITIONS + 1] == [*pieces(PREFIX), ":"]
    assert tokens[-9:] == pieces(ENDING)


def test_the_space_before_the_prompt_merges_with_it(reference) -> None:
    tokenizer = reference.pipeline.tokenizer
    tokens = tokenizer(SYSTEM_SENTENCE + "cat").input_ids
    assert [tokenizer.decode([token]) for token in tokens[-2:]] == [":", " cat"]


@pytest.mark.parametrize(
    "folder", ["original/Ovis2.5-2B", "comfyui/comfy/text_encoders/qwen25_tokenizer"]
)
def test_vocabulary_and_merges_are_the_same_tokenizer(tiny, reference, folder: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny / folder)
    for message in reference.pipeline._get_messages(PROMPTS):
        assert tokenizer(message).input_ids == reference.pipeline.tokenizer(message).input_ids


def test_the_original_vae_is_what_diffusers_converts(tiny: Path) -> None:
    vae = AutoencoderKL.from_pretrained(tiny / "diffusers" / "vae")
    converted = convert_ldm_vae_checkpoint(load_file(tiny / "original/ae.safetensors"), vae.config)
    expected = vae.state_dict()
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], expected[name]) for name in expected)


def test_comfyui_names_differ_in_norms_and_text_projection_only(tiny: Path) -> None:
    original = load_file(tiny / "original/ovis_image.safetensors")
    comfyui = load_file(tiny / "comfyui/models/diffusion_models/ovis_image_f32.safetensors")
    renamed = {}
    for name, tensor in comfyui.items():
        name = name.replace("_norm.scale", "_norm.weight")
        renamed[f"semantic_{name}" if name.startswith("txt_") else name] = tensor
    assert renamed.keys() == original.keys()
    assert all(torch.equal(renamed[name], original[name]) for name in original)
    scales = [name for name in comfyui if name.endswith(".scale")]
    # A query and a key norm for each stream of each block, and the text norm.
    assert len(scales) == 2 * (2 * 2 + 2) + 1


def test_no_weight_is_left_where_missing_it_would_not_show(tiny: Path) -> None:
    for file in (tiny / "diffusers").rglob("*.safetensors"):
        for name, tensor in load_file(file).items():
            assert tensor.abs().min() < tensor.abs().max(), f"{name} is constant"


def test_bf16_and_shards(tmp_path: Path) -> None:
    make(tmp_path, torch.bfloat16, max_shard_size="300KB")
    transformer = tmp_path / "diffusers" / "transformer"
    index = json.loads((transformer / "diffusion_pytorch_model.safetensors.index.json").read_text())
    shards = set(index["weight_map"].values())
    assert len(shards) > 1
    assert {path.name for path in transformer.glob("*.safetensors")} == shards
    for file in tmp_path.rglob("*.safetensors"):
        assert {tensor.dtype for tensor in load_file(file).values()} == {torch.bfloat16}
