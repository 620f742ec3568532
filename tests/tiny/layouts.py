"""Writes a checkpoint in the three common layouts."""

import json
from pathlib import Path

import torch
from diffusers import OvisImagePipeline
from safetensors.torch import save_file
from transformers import Qwen2Tokenizer

from . import names
from .models import Parts
from .tokenizer import added_tokens, write_files


def read_diffusers(folder: Path) -> tuple[Parts, Qwen2Tokenizer]:
    """Reads a diffusers folder, in bf16."""
    pipeline = OvisImagePipeline.from_pretrained(folder, dtype=torch.bfloat16)
    parts = (pipeline.transformer, pipeline.text_encoder, pipeline.vae, pipeline.scheduler)
    return Parts(*parts), pipeline.tokenizer


def write_diffusers(
    folder: Path, parts: Parts, tokenizer: Qwen2Tokenizer, max_shard_size: str | None = None
) -> None:
    """Writes a folder for `OvisImagePipeline.from_pretrained`."""
    pipeline = OvisImagePipeline(
        scheduler=parts.scheduler,
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=tokenizer,
        transformer=parts.transformer,
    )
    pipeline.save_pretrained(folder)
    if max_shard_size is not None:
        for name in ("transformer", "text_encoder"):
            for whole in (folder / name).glob("*.safetensors"):
                whole.unlink()
            getattr(parts, name).save_pretrained(folder / name, max_shard_size=max_shard_size)


def write_original(folder: Path, parts: Parts, tokenizer: Qwen2Tokenizer, seed: int = 0) -> None:
    """Writes the original release.

    It has two files, and the folder of the Ovis2.5 model whose language model is the text encoder,
    including the rest of that model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    transformer = names.original_transformer(parts.transformer.state_dict())
    save_file(transformer, folder / "ovis_image.safetensors", {"format": "pt"})
    save_file(names.flux_vae(parts.vae.state_dict()), folder / "ae.safetensors", {"format": "pt"})
    ovis = folder / "Ovis2.5-2B"
    write_files(tokenizer, ovis)
    (ovis / "added_tokens.json").write_text(json.dumps(added_tokens(tokenizer), indent=2) + "\n")
    _write_shards(ovis, [_language_model(parts), _vision_tower(parts, seed)])
    (ovis / "config.json").write_text(json.dumps(_ovis_config(parts), indent=2) + "\n", "utf-8")


def write_comfyui(folder: Path, parts: Parts, tokenizer: Qwen2Tokenizer) -> None:
    """Writes a ComfyUI folder: split files under `models/`, and the tokenizer.

    The tokenizer is at the place in ComfyUI's source where it keeps its tokenizer for Qwen models.
    """
    original = names.original_transformer(parts.transformer.state_dict())
    text_encoder = {f"model.{name}": t for name, t in parts.text_encoder.state_dict().items()}
    kind = "bf16" if parts.transformer.dtype == torch.bfloat16 else "f32"
    files = {
        f"diffusion_models/ovis_image_{kind}.safetensors": names.comfyui_transformer(original),
        "text_encoders/ovis_2.5.safetensors": text_encoder,
        "vae/ae.safetensors": names.flux_vae(parts.vae.state_dict()),
    }
    for path, tensors in files.items():
        target = folder / "models" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, target)
    write_files(tokenizer, folder / "comfy" / "text_encoders" / "qwen25_tokenizer")


def _language_model(parts: Parts) -> names.Tensors:
    weights = parts.text_encoder.state_dict()
    tensors = {f"llm.model.{name}": tensor for name, tensor in weights.items()}
    # Tied to the embedding, but stored nevertheless; safetensors requires a copy.
    tensors["llm.lm_head.weight"] = weights["embed_tokens.weight"].clone()
    return tensors


def _vision_tower(parts: Parts, seed: int) -> names.Tensors:
    """A few tensors of each part of the model that an image generator does not use.

    They have their real names.
    """
    generator = torch.Generator().manual_seed(seed)
    width, text_width = 32, parts.text_encoder.config.hidden_size
    vit = "visual_tokenizer.vit.vision_model"
    shapes = {
        f"{vit}.embeddings.patch_embedding.weight": (width, 3, 4, 4),
        f"{vit}.embeddings.patch_embedding.bias": (width,),
        f"{vit}.embeddings.position_embedding.weight": (16, width),
        f"{vit}.encoder.layers.0.layer_norm1.weight": (width,),
        f"{vit}.encoder.layers.0.layer_norm1.bias": (width,),
        f"{vit}.encoder.layers.0.self_attn.q_proj.weight": (width, width),
        f"{vit}.encoder.layers.0.self_attn.q_proj.bias": (width,),
        f"{vit}.encoder.layers.0.mlp.fc1.weight": (4 * width, width),
        f"{vit}.encoder.layers.0.mlp.fc1.bias": (4 * width,),
        f"{vit}.post_layernorm.weight": (width,),
        f"{vit}.post_layernorm.bias": (width,),
        "visual_tokenizer.head.0.weight": (96, 4 * width),
        "visual_tokenizer.head.1.weight": (96,),
        "visual_tokenizer.head.1.bias": (96,),
        "vte.weight": (100, text_width),
    }
    dtype = parts.text_encoder.dtype
    return {n: torch.randn(shape, generator=generator).to(dtype) for n, shape in shapes.items()}


def _write_shards(folder: Path, shards: list[names.Tensors]) -> None:
    weight_map = {}
    for index, tensors in enumerate(shards, 1):
        name = f"model-{index:05}-of-{len(shards):05}.safetensors"
        save_file(tensors, folder / name, {"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, name))
    total = sum(t.numel() * t.element_size() for tensors in shards for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _ovis_config(parts: Parts) -> dict:
    """The nested config of the release.

    `rope_theta` and `torch_dtype` are where transformers 4 puts them, because it wrote the release.
    """
    config = parts.text_encoder.config
    dtype = str(parts.text_encoder.dtype).removeprefix("torch.")
    same = (
        "attention_bias",
        "attention_dropout",
        "head_dim",
        "hidden_act",
        "hidden_size",
        "initializer_range",
        "intermediate_size",
        "max_position_embeddings",
        "max_window_layers",
        "model_type",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "rms_norm_eps",
        "sliding_window",
        "tie_word_embeddings",
        "use_cache",
        "use_sliding_window",
        "vocab_size",
    )
    llm = {name: getattr(config, name) for name in same}
    llm |= {
        "architectures": ["Qwen3ForCausalLM"],
        "rope_scaling": None,
        "rope_theta": int(config.rope_parameters["rope_theta"]),
        "torch_dtype": dtype,
    }
    vit = {
        "architectures": ["Siglip2NavitModel"],
        "hidden_size": 32,
        "hidden_stride": 2,
        "intermediate_size": 128,
        "layer_norm_eps": 1e-06,
        "model_type": "siglip2_navit",
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "patch_size": 4,
        "torch_dtype": dtype,
    }
    return {
        "architectures": ["Ovis2_5"],
        "hidden_size": config.hidden_size,
        "llm_config": llm,
        "model_type": "ovis2_5",
        "torch_dtype": dtype,
        "vit_config": vit,
        "visual_vocab_size": 100,
    }
