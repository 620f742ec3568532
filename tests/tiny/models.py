"""The reference models with a tiny geometry and random weights."""

import re
from dataclasses import dataclass

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    OvisImageTransformer2DModel,
)
from torch import nn
from transformers import Qwen3Config, Qwen3Model

TEXT_WIDTH = 64
"""Width of the text encoder, and so of the conditioning."""

VOCAB_PADDING = 64
"""The embedding table has a multiple of this many rows: like the real one, it is
larger than the tokenizer's vocabulary."""


@dataclass
class Parts:
    """The models of a checkpoint, as the reference libraries hold them."""

    transformer: OvisImageTransformer2DModel
    text_encoder: Qwen3Model
    vae: AutoencoderKL
    scheduler: FlowMatchEulerDiscreteScheduler


def build(
    seed: int,
    vocab_size: int,
    dtype: torch.dtype = torch.float32,
    *,
    heads: int = 2,
    text_width: int = TEXT_WIDTH,
) -> Parts:
    """Builds the tiny models with weights drawn from `seed`, in `dtype`.

    The transformer's width is 32 times `heads`, the text encoder's is `text_width`.
    """
    transformer = OvisImageTransformer2DModel(
        in_channels=64,
        out_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=heads,
        joint_attention_dim=text_width,
        # Head width times (1/8, 7/16, 7/16), as in the real model: layouts
        # without a config do not carry it.
        axes_dims_rope=(4, 14, 14),
    )
    text_encoder = Qwen3Model(
        Qwen3Config(
            vocab_size=-(-vocab_size // VOCAB_PADDING) * VOCAB_PADDING,
            hidden_size=text_width,
            intermediate_size=3 * text_width,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=40960,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
            attention_bias=False,
            tie_word_embeddings=True,
            use_cache=False,
        )
    )
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=2,
        latent_channels=16,
        norm_num_groups=32,
        sample_size=1024,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=True,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )
    for offset, module in enumerate((transformer, text_encoder, vae)):
        randomize(module, 3 * seed + offset)
        module.to(dtype).eval().requires_grad_(False)
    return Parts(transformer, text_encoder, vae, scheduler)


@torch.no_grad()
def randomize(module: nn.Module, seed: int) -> None:
    """Fills every parameter from `seed`, in the order of their names.

    No weight has a value that would hide its absence: norms are not 1, biases and modulations not
    0. Matrices preserve the magnitude of activations, so that rounding differences between
    implementations do not grow with depth.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        value = torch.randn(parameter.shape, generator=generator)
        if name.startswith("embed_tokens"):
            pass
        elif parameter.ndim >= 2:
            value /= parameter[0].numel() ** 0.5
        elif name.endswith("bias"):
            # Shifts, scales and gates get a clear effect; the others must only not be 0.
            value *= 0.5 if "norm" in name else 0.1
        else:
            # Above 1, so that attention is selective rather than an average.
            value = (1.5 if re.search(r"norm_(added_)?[qk]|[qk]_norm", name) else 1.0) + 0.2 * value
        parameter.copy_(value)
