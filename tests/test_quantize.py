"""`quantize` writes files that other programs read as the numbers they represent."""

from __future__ import annotations

import subprocess
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from gguf_files import (
    ENCODED_BY_GGUF,
    ENDS,
    TEXT_ENCODER,
    TRANSFORMER,
    llama_named,
    read,
    same_picture,
)
from real_worker import binary, guided_latents
from reference import relative_error

ERRORS = {
    "q8_0": 0.007,
    "q6_k": 0.02,
    "q5_k": 0.04,
    "q5_1": 0.04,
    "q5_0": 0.05,
    "q4_k": 0.08,
    "q4_1": 0.08,
    "q4_0": 0.1,
    "iq4_nl": 0.09,
    "iq4_xs": 0.09,
    "q3_k": 0.19,
    "q2_k": 0.35,
}
"""Largest relative errors of normally distributed weights, above those of ggml's encoders."""


def quantize(source: Path, out: Path, kind: str, *extra: str) -> Path:
    """`ovis-worker quantize`, which must succeed."""
    result = run_quantize(source, out, kind, *extra)
    assert result.returncode == 0, result.stderr
    return out


def run_quantize(
    source: Path, out: Path, kind: str, *extra: str
) -> subprocess.CompletedProcess[str]:
    arguments = [str(binary()), "quantize", str(source), str(out), "--type", kind, *extra]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300)


DRAWN = ("q8_0", "q4_k")
"""Types of which a picture is drawn as well, which takes seconds. A unit test holds the worker's
decoding of every type to the values that the package gguf reads here."""


@pytest.mark.parametrize("layout", ["comfyui", "sd-cpp"])
@pytest.mark.parametrize("kind", [*ERRORS, "f16", "bf16"])
def test_a_transformer_of_ours(wide: Path, tmp_path: Path, kind: str, layout: str) -> None:
    source = {name: tensor.numpy() for name, tensor in load_file(wide / TRANSFORMER).items()}
    file = tmp_path / "ovis.gguf"
    quantize(wide / "diffusers", file, kind, "--layout", layout)
    values, kinds, reader = read(file)
    assert values.keys() == source.keys()
    mixed = {"q3_k": "Q4_K", "q4_k": "Q5_K", "q5_k": "Q6_K"} if layout == "comfyui" else {}
    for name, value in values.items():
        wanted = source[name]
        if kinds[name] == "F32":
            assert np.array_equal(value, wanted)
            assert wanted.ndim == 1 or name.startswith(ENDS)
            continue
        error = np.linalg.norm(value - wanted) / np.linalg.norm(wanted)
        if kind in ("f16", "bf16"):
            assert kinds[name] == kind.upper() and error < 0.004
        elif name.startswith(ENDS):
            assert kinds[name] == "F16" and layout == "comfyui"
        else:
            is_qkv = name.endswith("attn.qkv.weight")
            assert (
                kinds[name] == (mixed.get(kind) if is_qkv else None) or kinds[name] == kind.upper()
            )
            assert error < ERRORS[kind], name
            if kinds[name] in ENCODED_BY_GGUF:
                blocks = gguf.quants.quantize(wanted, Kind[kinds[name]])
                tensor = next(tensor for tensor in reader.tensors if tensor.name == name)
                assert np.array_equal(tensor.data, blocks), name
    architecture = reader.get_field("general.architecture")
    assert (architecture.contents() if architecture else None) == (
        "flux" if layout == "comfyui" else None
    )
    if kind in DRAWN:
        plain = {name: torch.from_numpy(value.copy()) for name, value in values.items()}
        same_picture(tmp_path, wide, "transformer", file, plain)


@pytest.mark.parametrize("kind", [*ERRORS, "f16", "bf16"])
def test_a_text_encoder_of_ours(wide: Path, tmp_path: Path, kind: str) -> None:
    source = load_file(wide / TEXT_ENCODER)
    named = {name: tensor.numpy() for name, tensor in llama_named(source).items()}
    file = tmp_path / "qwen3.gguf"
    quantize(wide / "diffusers", file, kind, "--part", "text-encoder")
    values, kinds, reader = read(file)
    assert values.keys() == named.keys()
    for name, value in values.items():
        wanted = named[name]
        error = np.linalg.norm(value - wanted) / np.linalg.norm(wanted)
        assert error <= (0 if kinds[name] == "F32" else ERRORS.get(kind, 0.004)), name
        assert wanted.ndim == 2 or kinds[name] == "F32"
    finer = {"f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
    assert kinds["token_embd.weight"] == finer.get(kind, "Q6_K")
    fields = {
        "general.architecture": "qwen3",
        "qwen3.block_count": 2,
        "qwen3.embedding_length": 256,
        "qwen3.attention.head_count": 4,
        "qwen3.attention.head_count_kv": 2,
        "qwen3.rope.freq_base": 1e6,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
    }
    for key, wanted in fields.items():
        assert reader.get_field(key).contents() == wanted, key
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    assert len(tokens) == named["token_embd.weight"].shape[0]
    end = reader.get_field("tokenizer.ggml.eos_token_id").contents()
    assert tokens[end] == "<|im_end|>"
    if kind in DRAWN:
        plain = {
            name: torch.from_numpy(values[llama].copy())
            for name, llama in zip(source, named, strict=True)
        }
        same_picture(tmp_path, wide, "text_encoder", file, plain)


def test_the_vocabulary_is_the_tokenizers(wide: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(wide / "diffusers" / "tokenizer")
    file = tmp_path / "qwen3.gguf"
    quantize(wide / "diffusers", file, "q8_0", "--part", "text-encoder")
    reader = gguf.GGUFReader(file)
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    for text, token in tokenizer.get_vocab().items():
        assert tokens[token] == text
    kinds = reader.get_field("tokenizer.ggml.token_type").contents()
    assert kinds[tokenizer.convert_tokens_to_ids("<|im_start|>")] == gguf.TokenType.CONTROL
    # Without a tokenizer, the file says so.
    quantize(wide / TEXT_ENCODER, tmp_path / "none.gguf", "q8_0")
    reader = gguf.GGUFReader(tmp_path / "none.gguf")
    assert reader.get_field("qwen3.vocab_size").contents() == len(tokens)


@pytest.mark.parametrize("part", ["transformer", "text-encoder"])
def test_scaled_fp8_of_ours(wide: Path, tmp_path: Path, part: str) -> None:
    """The values that ComfyUI makes of the file are those that the worker loads."""
    source = load_file(wide / (TRANSFORMER if part == "transformer" else TEXT_ENCODER))
    file = tmp_path / "fp8.safetensors"
    quantize(wide / "diffusers", file, "fp8", "--part", part)
    written = load_file(file)
    marker = written.pop("scaled_fp8")
    assert marker.dtype == torch.float8_e4m3fn and marker.numel() == 2
    plain = {}
    for name, tensor in written.items():
        scale = written.get(f"{name.removesuffix('weight')}scale_weight")
        if name.endswith("scale_weight"):
            continue
        plain[name] = tensor if scale is None else tensor.float() * scale
        assert (tensor.dtype == torch.float8_e4m3fn) == (scale is not None)
        if scale is None:
            assert torch.equal(tensor, source[name])
        else:
            assert scale == source[name].abs().max() / 448
            assert torch.equal(tensor.float(), (source[name] / scale).to(tensor.dtype).float())
    assert plain.keys() == source.keys()
    assert sum(tensor.dtype == torch.float8_e4m3fn for tensor in written.values()) > 10
    same_picture(tmp_path, wide, part.replace("-", "_"), file, plain)


def test_a_gguf_is_quantized_again(wide: Path, tmp_path: Path) -> None:
    """Blocks of the wanted type are copied, others are encoded from their values."""
    eight = quantize(wide / TRANSFORMER, tmp_path / "q8.gguf", "q8_0", "--layout", "sd-cpp")
    again = quantize(eight, tmp_path / "again.gguf", "q8_0", "--layout", "sd-cpp")
    assert eight.read_bytes() == again.read_bytes()
    four = quantize(eight, tmp_path / "q4.gguf", "q4_k")
    values, kinds, _ = read(four)
    source = load_file(wide / TRANSFORMER)
    assert "Q4_K" in kinds.values()
    for name, value in values.items():
        assert relative_error(torch.from_numpy(value.copy()), source[name]) < ERRORS["q4_k"]


def test_what_does_not_fit_blocks_of_256(tiny: Path, tmp_path: Path) -> None:
    """The tiny checkpoint's rows have 64 values: each writer's fallback is used."""
    quantize(tiny / "diffusers", tmp_path / "a.gguf", "q4_k")
    _, kinds, _ = read(tmp_path / "a.gguf")
    assert kinds["double_blocks.0.img_attn.proj.weight"] == "F16"
    assert kinds["double_blocks.0.img_mlp.down_proj.weight"] == "Q4_K"
    quantize(tiny / "diffusers", tmp_path / "b.gguf", "q4_k", "--layout", "sd-cpp")
    _, kinds, _ = read(tmp_path / "b.gguf")
    assert kinds["double_blocks.0.img_attn.proj.weight"] == "F32"
    quantize(tiny / "diffusers", tmp_path / "c.gguf", "q4_k", "--part", "text-encoder")
    _, kinds, _ = read(tmp_path / "c.gguf")
    assert kinds["blk.0.attn_q.weight"] == "Q5_0"
    assert kinds["token_embd.weight"] == "Q8_0"
    guided_latents(
        tmp_path,
        model=tiny / "diffusers",
        transformer=tmp_path / "a.gguf",
        text_encoder=tmp_path / "c.gguf",
    )


def test_what_quantize_refuses(wide: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"

    def refused(source: Path, out: Path, kind: str, *extra: str) -> str:
        result = run_quantize(source, out, kind, *extra)
        assert result.returncode == 1, result.stderr
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        return line

    file.write_bytes(b"kept")
    assert "a.gguf exists" in refused(wide / TRANSFORMER, file, "q8_0")
    assert file.read_bytes() == b"kept"
    quantize(wide / TRANSFORMER, file, "q8_0", "--force")
    assert file.read_bytes().startswith(b"GGUF")
    assert "end in .gguf" in refused(wide / TRANSFORMER, tmp_path / "a.safetensors", "q8_0")
    assert "end in .safetensors" in refused(wide / TRANSFORMER, tmp_path / "b.gguf", "fp8")
    words = refused(wide / TRANSFORMER, tmp_path / "b.gguf", "q8_0", "--part", "text-encoder")
    assert "has no text encoder" in words
    vae = wide / "comfyui/models/vae/ae.safetensors"
    assert "has no transformer or text encoder" in refused(vae, tmp_path / "b.gguf", "q8_0")
    source = load_file(wide / TRANSFORMER)
    source["single_blocks.0.linear1.weight"][3, 4] = float("nan")
    save_file(source, tmp_path / "nan.safetensors")
    words = refused(tmp_path / "nan.safetensors", tmp_path / "b.gguf", "q8_0")
    assert "`single_blocks.0.linear1.weight`" in words and "NaN" in words
    source["single_blocks.0.linear1.weight"][3, 4] = 1e6
    save_file(source, tmp_path / "large.safetensors")
    words = refused(tmp_path / "large.safetensors", tmp_path / "b.gguf", "f16")
    assert "1000000, which F16 cannot store" in words
    assert not (tmp_path / "b.gguf").exists()
    # Sizes before and after are said.
    result = run_quantize(wide / TRANSFORMER, tmp_path / "c.gguf", "q4_0")
    assert " MB to " in result.stderr and "quantizing: 100 %" in result.stderr
