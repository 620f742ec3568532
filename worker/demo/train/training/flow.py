"""The transformer in training: its forward pass and the noise levels."""

import math

import torch
from torch import nn

READ_AFTER = 2
"""The reader sees the image tokens after this many single-stream blocks."""


def predict(
    transformer: nn.Module,
    latents: torch.Tensor,
    text: torch.Tensor,
    sigma: torch.Tensor,
    rope: tuple[torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """`OvisImageTransformer2DModel.forward` for training.

    It computes the same with two differences: RoPE is computed once per shape and passed in, and
    the timestep stays in float32 (the original rounds it to bf16 in a bf16 model). Returns the
    velocity, and the image tokens after `READ_AFTER` single-stream blocks.
    """
    device_type = latents.device.type
    with torch.autocast(device_type, enabled=False):
        time = transformer.timestep_embedder(transformer.time_proj(sigma * 1000))
        text = transformer.context_embedder_norm(text.float())
    with torch.autocast(device_type, torch.bfloat16, enabled=device_type == "cuda"):
        image = transformer.x_embedder(latents)
        text = transformer.context_embedder(text)
        for block in transformer.transformer_blocks:
            text, image = block(image, text, time, rope)
        for number, block in enumerate(transformer.single_transformer_blocks, 1):
            text, image = block(image, text, time, rope)
            if number == min(READ_AFTER, len(transformer.single_transformer_blocks)):
                middle = image
        return transformer.proj_out(transformer.norm_out(image, time)).float(), middle


def sigmas(count: int, tokens: int, device: torch.device) -> torch.Tensor:
    """Random noise levels: nine of ten logit-normal, the others uniform, then shifted for the
    number of image tokens like the scheduler's sigmas."""
    levels = torch.sigmoid(torch.randn(count, device=device))
    uniform = torch.rand(count, device=device)
    levels = torch.where(torch.rand(count, device=device) < 0.1, uniform, levels)
    slope = (1.15 - 0.5) / (4096 - 256)
    shift = math.exp(0.5 + slope * (tokens - 256))
    return shift * levels / (1 + (shift - 1) * levels)
