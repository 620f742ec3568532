"""The results of transformers and diffusers for the tiny checkpoint, as the reference."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from diffusers import OvisImagePipeline

TEMPLATE_ENDING_TOKENS = 9
"""Tokens of the template that follow the prompt."""


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The norm of the difference divided by the norm of `theirs`, in float64."""
    assert ours.shape == theirs.shape
    ours, theirs = ours.double(), theirs.double()
    return ((ours - theirs).norm() / theirs.norm()).item()


def noise(seed: int, *shape: int) -> torch.Tensor:
    """The first noise that a generator seeded with `seed` draws, in float32."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass
class Reference:
    """The reference pipeline in one precision; all results are float32."""

    pipeline: OvisImagePipeline

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Reference:
        pipeline = OvisImagePipeline.from_pretrained(folder, dtype=dtype)
        pipeline.set_progress_bar_config(disable=True)
        return cls(pipeline)

    @property
    def dtype(self) -> torch.dtype:
        return self.pipeline.transformer.dtype

    @property
    def _scale_and_shift(self) -> tuple[float, float]:
        config = self.pipeline.vae.config
        return config.scaling_factor, config.shift_factor

    def to_model(self, raw: torch.Tensor) -> torch.Tensor:
        """Converts raw VAE latents to the transformer's scale."""
        scale, shift = self._scale_and_shift
        return (raw - shift) * scale

    def to_raw(self, latent: torch.Tensor) -> torch.Tensor:
        """Converts the transformer's output to raw VAE latents."""
        scale, shift = self._scale_and_shift
        return latent / scale + shift

    def lost_tokens(self, prompt: str, max_sequence_length: int) -> tuple[int, int]:
        """The tokens that were cut from the prompt, and from the template's ending."""
        message = self.pipeline._get_messages(prompt)[0]
        length = len(self.pipeline.tokenizer(message).input_ids)
        lost = max(0, length - self.pipeline.user_prompt_begin_id - max_sequence_length)
        from_ending = min(lost, TEMPLATE_ENDING_TOKENS)
        return lost - from_ending, from_ending

    def token_count(self, prompt: str) -> int:
        """The positions that the transformer would see if nothing were cut or padded."""
        message = self.pipeline._get_messages(prompt)[0]
        return len(self.pipeline.tokenizer(message).input_ids) - self.pipeline.user_prompt_begin_id

    @torch.no_grad()
    def encode(self, prompts: list[str], max_sequence_length: int = 256) -> torch.Tensor:
        """Conditioning, `[B, T, D]`."""
        return self.pipeline._get_ovis_prompt_embeds(
            prompts, max_sequence_length=max_sequence_length
        ).float()

    @torch.no_grad()
    def velocity(self, x: torch.Tensor, sigma: float, conditioning: torch.Tensor) -> torch.Tensor:
        """The transformer's output for latents `[B, 16, h, w]` (as it sees them)."""
        batch, channels, height, width = x.shape
        pipeline, dtype = self.pipeline, self.dtype
        text_length = conditioning.shape[1]
        text_ids = torch.zeros(text_length, 3)
        text_ids[:, 1:] = torch.arange(text_length)[:, None]
        image_ids = pipeline._prepare_latent_image_ids(1, height // 2, width // 2, "cpu", dtype)
        packed = pipeline.transformer(
            hidden_states=pipeline._pack_latents(x.to(dtype), batch, channels, height, width),
            encoder_hidden_states=conditioning.to(dtype).expand(batch, -1, -1),
            timestep=torch.full((batch,), sigma, dtype=dtype),
            img_ids=image_ids,
            txt_ids=text_ids.to(dtype),
            return_dict=False,
        )[0]
        return pipeline._unpack_latents(packed, 8 * height, 8 * width, 8).float()

    @torch.no_grad()
    def decode(self, raw: torch.Tensor) -> torch.Tensor:
        """Pixels `[B, H, W, 3]`, 0 to 1, from raw VAE latents."""
        pixels = self.pipeline.vae.decode(raw.to(self.dtype), return_dict=False)[0].float()
        return (pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    @torch.no_grad()
    def vae_encode(self, image: torch.Tensor) -> torch.Tensor:
        """Raw VAE latents (the posterior's mean) from pixels `[B, H, W, 3]`, 0 to 1."""
        pixels = (image * 2 - 1).permute(0, 3, 1, 2).to(self.dtype)
        return self.pipeline.vae.encode(pixels).latent_dist.mean.float()

    def run(self, start: torch.Tensor, **arguments: object) -> tuple[torch.Tensor, np.ndarray]:
        """The whole pipeline from the noise `start`, `[B, 16, h, w]`.

        Returns raw VAE latents, and pixels `[B, H, W, 3]` from 0 to 1.
        """
        batch, channels, height, width = start.shape
        packed = self.pipeline._pack_latents(start, batch, channels, height, width)
        latents = self.pipeline(
            latents=packed.to(self.dtype),
            height=8 * height,
            width=8 * width,
            num_images_per_prompt=batch,
            output_type="latent",
            **arguments,
        ).images
        latents = self.pipeline._unpack_latents(latents.float(), 8 * height, 8 * width, 8)
        raw = self.to_raw(latents)
        return raw, self.decode(raw).numpy()
