"""GGUF files as the `gguf` package writes and reads them, and their tensors' names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import save_file

from real_worker import guided_latents

Tensors = dict[str, torch.Tensor]

TRANSFORMER = "comfyui/models/diffusion_models/ovis_image_f32.safetensors"
TEXT_ENCODER = "comfyui/models/text_encoders/ovis_2.5.safetensors"

ENCODED_BY_GGUF = ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"]
"""The types that the `gguf` package encodes. The others are only decoded by it."""

ENDS = ("img_in.", "txt_in.", "time_in.", "final_layer.")

LLAMA = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""llama.cpp's names of a layer's tensors, and transformers' (gguf-py `tensor_mapping.py`)."""


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], gguf.GGUFReader]:
    """Values and types of a file's tensors, by the `gguf` package."""
    reader = gguf.GGUFReader(path)
    values, kinds = {}, {}
    for tensor in reader.tensors:
        shape = tuple(reversed(tensor.shape.tolist()))
        values[tensor.name] = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        kinds[tensor.name] = tensor.tensor_type.name
    return values, kinds, reader


def write(
    path: Path,
    tensors: Tensors,
    kind_of: Callable[[str, torch.Tensor], Kind],
    arch: str | None = None,
) -> Tensors:
    """Writes a file with the `gguf` package, and returns the values that it stores."""
    writer = gguf.GGUFWriter(path, arch or "none")
    if arch is None:
        # stable-diffusion.cpp's files have no metadata.
        writer.kv_data[0].clear()
    stored = {}
    for name, tensor in tensors.items():
        kind = kind_of(name, tensor)
        data = gguf.quants.quantize(tensor.float().numpy(), kind)
        writer.add_tensor(name, data, raw_dtype=kind)
        stored[name] = torch.from_numpy(gguf.quants.dequantize(data, kind)).reshape(tensor.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored


def matrices(kind: Kind) -> Callable[[str, torch.Tensor], Kind]:
    """Matrices whose rows are blocks in `kind`, everything else in float32."""

    def kind_of(_: str, tensor: torch.Tensor) -> Kind:
        block, _ = gguf.GGML_QUANT_SIZES[kind]
        return kind if tensor.ndim == 2 and tensor.shape[1] % block == 0 else Kind.F32

    return kind_of


def same_picture(out: Path, wide: Path, flag: str, file: Path, plain: Tensors) -> None:
    """Checks that a GGUF file gives the latents of its values in a safetensors file."""
    save_file({n: t.contiguous() for n, t in plain.items()}, out / "plain.safetensors")
    model = wide / "diffusers"
    for precision in ("f32", "bf16"):
        ours = guided_latents(out, model=model, precision=precision, **{flag: file})
        wanted = guided_latents(
            out, model=model, precision=precision, **{flag: out / "plain.safetensors"}
        )
        assert torch.equal(ours, wanted), precision


def llama_named(source: Tensors) -> Tensors:
    """A text encoder of ComfyUI under llama.cpp's names."""
    back = {ours: llama for llama, ours in LLAMA.items()}
    named = {}
    for name, tensor in source.items():
        stem = name.removeprefix("model.").removesuffix(".weight")
        if stem.startswith("layers."):
            _, layer, inner = stem.split(".", 2)
            stem = f"blk.{layer}.{back[inner]}"
        else:
            stem = {"embed_tokens": "token_embd", "norm": "output_norm"}[stem]
        named[f"{stem}.weight"] = tensor
    return named
