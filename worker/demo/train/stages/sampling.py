"""Sampling with the semantics of `OvisImagePipeline`, but for many prompts at once and with one
recorded forward for all steps.

The scheduler, its sigmas and the noise are those of diffusers: Euler steps of flow matching over
dynamically shifted sigmas, noise from a CPU generator per picture, guidance against the empty
prompt, all 256 text positions. On CUDA the networks run in bf16 autocast; latents, sigmas and
steps stay in float32.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.ovis_image.pipeline_ovis_image import calculate_shift
from torch import nn

from judging import sources
from judging.lists import Item
from posters.poster import Poster
from prompts.tokenizer import FULL_POSITIONS, Encoder
from training.flow import predict
from training.graphs import Replayed
from training.models import (
    SCALE,
    SHIFT,
    Models,
    encode_prompts,
    image_ids,
    pack,
    scheduler,
    text_ids,
)

DECODED_AT_ONCE = 64
"""Pictures that the autoencoder decodes in one call; more need memory and are not faster."""


def guided(
    transformer: nn.Module,
    latents: torch.Tensor,
    text: torch.Tensor,
    empty: torch.Tensor,
    sigma: torch.Tensor,
    rope: tuple[torch.Tensor, torch.Tensor],
    guidance: float,
) -> torch.Tensor:
    """The velocity [B, N, 64] with classifier-free guidance: u + guidance (c - u), where c is
    predicted for `text` [B, T, D] and u for the empty prompt [1, T, D]. Both run as one batch."""
    if guidance <= 1:
        return predict(transformer, latents, text, sigma, rope)[0]
    both = predict(
        transformer,
        latents.repeat(2, 1, 1),
        torch.cat([text, empty.expand_as(text)]),
        sigma.repeat(2),
        rope,
    )[0]
    conditional, unconditional = both.chunk(2)
    return torch.lerp(unconditional, conditional, guidance)


class Sampler:
    """Samples pictures from models whose weights may change between calls.

    With `graphs`, the forward of each shape is recorded as a CUDA graph, which reads the weights
    in place. It is recorded for batches of `batch` pictures; other batches run without.
    """

    def __init__(
        self, models: Models, steps: int, guidance: float, batch: int, graphs: bool = False
    ):
        self.models, self.steps, self.guidance, self.batch = models, steps, guidance, batch
        self.device = next(models.transformer.parameters()).device
        self.graphs = graphs and self.device.type == "cuda"
        self.encoder = Encoder(models.tokenizer, FULL_POSITIONS)
        self.forwards: dict[tuple[int, int], tuple[dict[str, torch.Tensor], Replayed]] = {}
        self.ropes: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def rope(self, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The RoPE tables for all text positions and a grid of image tokens; cached."""
        if grid not in self.ropes:
            places = (text_ids(FULL_POSITIONS, self.device), image_ids(*grid, self.device))
            with torch.no_grad():
                self.ropes[grid] = self.models.transformer.pos_embed(torch.cat(places))
        return self.ropes[grid]

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """Encodes prompts to [B, 256, D] in float32."""
        ids, lengths = zip(*map(self.encoder, prompts), strict=True)
        ids = torch.from_numpy(np.stack(ids)).to(self.device).long()
        return self.encode_ids(ids, torch.tensor(lengths, device=self.device))

    @torch.no_grad()
    def encode_ids(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Encodes padded token ids [B, 28 + 256] to [B, 256, D] in float32."""
        with autocast(self.device):
            return encode_prompts(self.models.text_encoder, ids, lengths).float()

    def sigmas(self, tokens: int) -> torch.Tensor:
        """The scheduler's noise levels for a number of image tokens: [steps + 1], from 1 to 0."""
        schedule = scheduler()
        table = schedule.config
        shift = calculate_shift(
            tokens,
            table.base_image_seq_len,
            table.max_image_seq_len,
            table.base_shift,
            table.max_shift,
        )
        schedule.set_timesteps(sigmas=np.linspace(1.0, 1 / self.steps, self.steps), mu=shift)
        return schedule.sigmas.to(self.device)

    def noise(self, seeds: Iterable[int], height: int, width: int) -> torch.Tensor:
        """Packed initial noise [B, N, 64], one CPU generator a picture as in the pipeline."""
        shape = (1, 16, height // 8, width // 8)
        generators = (torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds)
        return pack(torch.cat([torch.randn(shape, generator=g) for g in generators])).to(
            self.device
        )

    @torch.no_grad()
    def velocity(
        self,
        latents: torch.Tensor,
        text: torch.Tensor,
        empty: torch.Tensor,
        sigma: torch.Tensor,
        grid: tuple[int, int],
    ) -> torch.Tensor:
        """The guided velocity of a batch at one noise level, a tensor without dimensions."""
        if not self.graphs or len(latents) != self.batch:
            levels = sigma.expand(len(latents))
            rope = self.rope(grid)
            return guided(
                self.models.transformer, latents, text, empty, levels, rope, self.guidance
            )
        if grid not in self.forwards:
            self.forwards[grid] = self._record(latents, text, empty, grid)
        inputs, forward = self.forwards[grid]
        inputs["latents"].copy_(latents)
        inputs["text"].copy_(text)
        inputs["empty"].copy_(empty)
        inputs["sigma"].copy_(sigma.expand(len(latents)))
        return forward()

    def _record(
        self,
        latents: torch.Tensor,
        text: torch.Tensor,
        empty: torch.Tensor,
        grid: tuple[int, int],
    ) -> tuple[dict[str, torch.Tensor], Replayed]:
        """Input buffers for a shape, and the forward that reads them."""
        levels = torch.ones(len(latents), device=self.device)
        inputs = {
            "latents": latents.clone(), "text": text.clone(), "empty": empty.clone(),
            "sigma": levels,
        }  # fmt: skip
        rope, transformer = self.rope(grid), self.models.transformer
        forward = Replayed(
            lambda: guided(transformer, **inputs, rope=rope, guidance=self.guidance), True
        )
        return inputs, forward

    @torch.no_grad()
    def draw(
        self, text: torch.Tensor, empty: torch.Tensor, noise: torch.Tensor, grid: tuple[int, int]
    ) -> torch.Tensor:
        """Denoises packed noise with Euler steps, as the pipeline does."""
        latents, sigmas = noise, self.sigmas(noise.shape[1])
        for sigma, following in pairwise(sigmas):
            velocity = self.velocity(latents, text, empty, sigma, grid)
            latents = latents + (following - sigma) * velocity
        return latents

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Decodes packed latents to pictures, uint8 [B, H, W, 3]."""
        pictures = []
        for part in unpack(latents, grid).split(DECODED_AT_ONCE):
            with autocast(self.device):
                picture = self.models.vae.decode(part / SCALE + SHIFT, return_dict=False)[0]
            picture = (picture.float() / 2 + 0.5).clamp(0, 1) * 255
            pictures.append(picture.round().to(torch.uint8).permute(0, 2, 3, 1))
        return torch.cat(pictures)

    def pictures(self, items: Sequence[tuple[int, Poster]]) -> list[np.ndarray]:
        """The picture of each (seed, poster): uint8 [H, W, 3], in the order of the items."""
        empty = self.encode([""])
        result: list[np.ndarray | None] = [None] * len(items)
        sizes: dict[tuple[int, int], list[int]] = {}
        for number, (_, poster) in enumerate(items):
            sizes.setdefault((poster.height, poster.width), []).append(number)
        for (height, width), numbers in sizes.items():
            grid = (height // 16, width // 16)
            for start in range(0, len(numbers), self.batch):
                part = numbers[start : start + self.batch]
                text = self.encode([items[n][1].prompt for n in part])
                noise = self.noise((items[n][0] for n in part), height, width)
                latents = self.draw(text, empty, noise, grid)
                for number, picture in zip(part, self.decode(latents, grid).cpu(), strict=True):
                    result[number] = picture.numpy()
        return result


def autocast(device: torch.device) -> torch.autocast:
    """bf16 autocast on CUDA; float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def unpack(latents: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Undoes `training.models.pack`: tokens [B, N, 64] to [B, 16, H/8, W/8]."""
    height, width = grid
    latents = latents.reshape(len(latents), height, width, 16, 2, 2)
    return latents.permute(0, 3, 1, 4, 2, 5).reshape(len(latents), 16, 2 * height, 2 * width)


def save_lists(sampler: Sampler, lists: dict[str, Sequence[Item]], folder: Path) -> None:
    """Draws held-out lists and writes them where `evaluate.py pictures FOLDER` finds them."""
    for name, items in lists.items():
        pictures = sampler.pictures([(item.seed, item.poster) for item in items])
        sources.save(folder / name, sources.file_names(items), pictures)
