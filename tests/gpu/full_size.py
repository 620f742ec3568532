"""Writes a checkpoint of the full-size model with random weights, generated on a GPU."""

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


SMALL = {
    "transformer": {"num_attention_heads": 2, "joint_attention_dim": 64},
    "text_encoder": {
        "vocab_size": 1024,
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    },
    "vae": {"block_out_channels": (32, 32, 64, 64)},
}
"""Changes for a geometry that a CPU can run: the same depth, a twelfth of the width."""

BLUR = 150.0
"""Distance in timesteps, of 1000, within which the random time embedding changes little."""


def write(folder: Path, seed: int = 0, *, small: bool = False) -> None:
    """Writes the diffusers layout in bf16 (18 GB), generated on the GPU from a seed; or a `small`
    model, generated on the CPU."""
    changes = SMALL if small else {part: {} for part in SMALL}
    device = "cpu" if small else "cuda"
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        transformer = OvisImageTransformer2DModel(**TRANSFORMER | changes["transformer"])
        text_encoder = Qwen3Model(Qwen3Config(**TEXT_ENCODER | changes["text_encoder"]))
        vae = AutoencoderKL(**VAE | changes["vae"])
    torch.set_default_dtype(torch.float32)
    for offset, module in enumerate((transformer, text_encoder, vae)):
        _randomize(module, torch.Generator(device).manual_seed(seed + offset))
    _smooth(transformer)
    scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULER)
    write_diffusers(folder, Parts(transformer, text_encoder, vae, scheduler), train_tokenizer())


@torch.no_grad()
def _randomize(module: nn.Module, generator: torch.Generator) -> None:
    """Like `tiny.models.randomize`, but on the module's device, which takes seconds on a GPU."""
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


@torch.no_grad()
def _smooth(transformer: OvisImageTransformer2DModel) -> None:
    """Makes neighbouring steps similar, as they are in a trained model.

    A random time embedding weighs its fastest waves, with a period of 6 timesteps, like its
    slowest. Two steps are 20 timesteps or more apart, so their modulations are unrelated, and a
    step cache never finds a step similar to the one before. Here waves are damped the more periods
    they have within `BLUR` timesteps, and all are rescaled to keep the output's size. Only the
    weights of the embedding's first layer change, 0.01 % of all.
    """
    weight = transformer.timestep_embedder.linear_1.weight
    half = weight.shape[1] // 2
    waves = 10000 ** (-torch.arange(half, device=weight.device) / half)
    share = 1 / (1 + (BLUR * waves) ** 2)
    share /= share.square().mean().sqrt()
    weight.mul_(share.repeat(2))
