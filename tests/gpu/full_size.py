"""The full-size model with random weights: what the reference libraries hold, on a GPU."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    OvisImageTransformer2DModel,
)
from torch import nn
from transformers import Qwen3Config, Qwen3Model

from tiny.layouts import write_diffusers
from tiny.models import Parts
from tiny.tokenizer import train_tokenizer

# Ovis-Image-7B's published configs.
TRANSFORMER = {
    "in_channels": 64,
    "out_channels": 64,
    "num_layers": 6,
    "num_single_layers": 27,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 2048,
    "axes_dims_rope": (16, 56, 56),
}
TEXT_ENCODER = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "attention_bias": False,
    "tie_word_embeddings": True,
    "use_cache": False,
}
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "norm_num_groups": 32,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
SCHEDULER = {
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}


def write(folder: Path, seed: int = 0) -> None:
    """Writes the diffusers layout in bf16, 18 GB, from a seed."""
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        transformer = OvisImageTransformer2DModel(**TRANSFORMER)
        text_encoder = Qwen3Model(Qwen3Config(**TEXT_ENCODER))
        vae = AutoencoderKL(**VAE)
    torch.set_default_dtype(torch.float32)
    for offset, module in enumerate((transformer, text_encoder, vae)):
        _randomize(module, seed + offset)
    scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULER)
    write_diffusers(folder, Parts(transformer, text_encoder, vae, scheduler), train_tokenizer())


@torch.no_grad()
def _randomize(module: nn.Module, seed: int) -> None:
    """As `tiny.models.randomize`, but drawn on the GPU, in seconds."""
    generator = torch.Generator("cuda").manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        parameter.normal_(generator=generator)
        if name.startswith("embed_tokens"):
            pass
        elif parameter.ndim >= 2:
            parameter.div_(parameter[0].numel() ** 0.5)
        elif name.endswith("bias"):
            parameter.mul_(0.5 if "norm" in name else 0.1)
        else:
            middle = 1.5 if re.search(r"norm_(added_)?[qk]|[qk]_norm", name) else 1.0
            parameter.mul_(0.2).add_(middle)
