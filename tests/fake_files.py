"""Weights files of other models, with real names and shapes but without data."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from pathlib import Path

Shapes = dict[str, tuple[int, ...]]


def write_header(path: Path, header: object, data: int = 0, length: int | None = None) -> Path:
    """Writes a safetensors file with this header and so many bytes of data.

    The header is text, or a value to be written as JSON. The file claims that it has `length`
    bytes.
    """
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    size = len(text) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + text + bytes(data))
    return path


def hub_cache(cache: Path, source: Path, name: str = "AIDC-AI/Ovis-Image-7B") -> Path:
    """Creates a repository's folder as huggingface_hub caches it, and returns it.

    Files are links to blobs, and `refs/main` names the revision.
    """
    repository = cache / f"models--{name.replace('/', '--')}"
    revision = "0123456789abcdef0123456789abcdef01234567"
    snapshot, blobs = repository / "snapshots" / revision, repository / "blobs"
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(p for p in source.rglob("*") if p.is_file())):
        blob = blobs / f"{number:040x}"
        shutil.copy(file, blob)
        link = snapshot / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    return repository


def write_hollow(path: Path, shapes: Shapes) -> Path:
    """Writes a valid bfloat16 safetensors file as a sparse file, to save disk space."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


def _linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def flux_dev(hidden: int = 3072) -> Shapes:
    """FLUX.1-dev's transformer under its original names, with one block of each kind."""
    shapes = _linear("img_in", hidden, 64) | _linear("txt_in", hidden, 4096)
    for name, width in (("time_in", 256), ("vector_in", 768), ("guidance_in", 256)):
        shapes |= _linear(f"{name}.in_layer", hidden, width)
        shapes |= _linear(f"{name}.out_layer", hidden, hidden)
    for stream in ("img", "txt"):
        block = f"double_blocks.0.{stream}"
        shapes |= _linear(f"{block}_mod.lin", 6 * hidden, hidden)
        shapes |= _linear(f"{block}_attn.qkv", 3 * hidden, hidden)
        shapes |= _linear(f"{block}_attn.proj", hidden, hidden)
        shapes |= {f"{block}_attn.norm.{which}_norm.scale": (128,) for which in ("query", "key")}
        shapes |= _linear(f"{block}_mlp.0", 4 * hidden, hidden)
        shapes |= _linear(f"{block}_mlp.2", hidden, 4 * hidden)
    block = "single_blocks.0"
    shapes |= _linear(f"{block}.linear1", 7 * hidden, hidden)
    shapes |= _linear(f"{block}.linear2", hidden, 5 * hidden)
    shapes |= {f"{block}.norm.{which}_norm.scale": (128,) for which in ("query", "key")}
    shapes |= _linear(f"{block}.modulation.lin", 3 * hidden, hidden)
    shapes |= _linear("final_layer.linear", 64, hidden)
    return shapes | _linear("final_layer.adaLN_modulation.1", 2 * hidden, hidden)


def flux_dev_diffusers(hidden: int = 3072) -> Shapes:
    """FLUX.1-dev's transformer under diffusers' names.

    It has everything outside the blocks, and the keys that identify a double block.
    """
    shapes = _linear("x_embedder", hidden, 64) | _linear("context_embedder", hidden, 4096)
    embedders = (("timestep", 256), ("guidance", 256), ("text", 768))
    for name, width in embedders:
        shapes |= _linear(f"time_text_embed.{name}_embedder.linear_1", hidden, width)
        shapes |= _linear(f"time_text_embed.{name}_embedder.linear_2", hidden, hidden)
    block = "transformer_blocks.0"
    for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0"):
        shapes |= _linear(f"{block}.attn.{name}", hidden, hidden)
    shapes |= _linear(f"{block}.ff.net.0.proj", 4 * hidden, hidden)
    return shapes | _linear("proj_out", 64, hidden)


def sd3(prefix: str = "model.diffusion_model.") -> Shapes:
    """Stable Diffusion 3's transformer with one block, as in its one-file releases."""
    hidden = 1536
    shapes = {"x_embedder.proj.weight": (hidden, 16, 2, 2), "x_embedder.proj.bias": (hidden,)}
    shapes |= {"pos_embed": (1, 36864, hidden)} | _linear("context_embedder", hidden, 4096)
    for name, width in (("t_embedder", 256), ("y_embedder", 2048)):
        shapes |= _linear(f"{name}.mlp.0", hidden, width) | _linear(f"{name}.mlp.2", hidden, hidden)
    for stream in ("x_block", "context_block"):
        block = f"joint_blocks.0.{stream}"
        shapes |= _linear(f"{block}.attn.qkv", 3 * hidden, hidden)
        shapes |= _linear(f"{block}.attn.proj", hidden, hidden)
        shapes |= _linear(f"{block}.mlp.fc1", 4 * hidden, hidden)
        shapes |= _linear(f"{block}.mlp.fc2", hidden, 4 * hidden)
        shapes |= _linear(f"{block}.adaLN_modulation.1", 6 * hidden, hidden)
    shapes |= _linear("final_layer.linear", 64, hidden)
    return {prefix + name: shape for name, shape in shapes.items()}


def sd3_diffusers() -> Shapes:
    """Stable Diffusion 3's transformer under diffusers' names."""
    hidden = 1536
    shapes = {"pos_embed.proj.weight": (hidden, 16, 2, 2), "pos_embed.proj.bias": (hidden,)}
    shapes |= {"pos_embed.pos_embed": (1, 36864, hidden)}
    shapes |= _linear("context_embedder", hidden, 4096) | _linear("proj_out", 64, hidden)
    for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0"):
        shapes |= _linear(f"transformer_blocks.0.attn.{name}", hidden, hidden)
    return shapes
