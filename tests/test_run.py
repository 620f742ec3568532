"""A complete run, from prompt and seed to pixels, compared with the reference pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from safetensors.torch import load_file

from comfy_node import wire
from real_worker import generate
from reference import Reference, noise, relative_error

LATENTS = 1e-3
PROMPT, NEGATIVE = "a red fox on a green hill, watercolor", "low quality, blurry"
SETTINGS = {"num_inference_steps": 8, "guidance_scale": 5.0}


def pixels_agree(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The share of 8-bit values that differ by at most one from the reference."""
    rounded = (theirs * 255).round().astype(int)
    assert ours.shape == rounded.shape
    return float((abs(ours.astype(int) - rounded) <= 1).mean())


@pytest.mark.parametrize(
    ("width", "height", "batch", "seed"),
    [(128, 128, 1, 0), (160, 96, 2, 2**32 + 5), (64, 256, 1, 42)],
)
def test_eight_steps_with_guidance(
    tiny: Path, reference: Reference, tmp_path: Path, width, height, batch, seed
) -> None:
    generate(
        model=tiny / "diffusers",
        prompt=PROMPT,
        negative=NEGATIVE,
        width=width,
        height=height,
        batch=batch,
        steps=8,
        cfg=5,
        seed=seed,
        device="cpu",
        precision="f32",
        out=tmp_path / "image.png",
        latents_out=tmp_path / "latents.safetensors",
    )
    latents = load_file(tmp_path / "latents.safetensors")["latents"]
    start = noise(seed, batch, 16, height // 8, width // 8)
    raw, pixels = reference.run(start, prompt=PROMPT, negative_prompt=NEGATIVE, **SETTINGS)
    assert relative_error(latents, raw) <= LATENTS
    names = ["image.png"] if batch == 1 else [f"image-{i}.png" for i in range(batch)]
    images = np.stack([np.asarray(Image.open(tmp_path / name)) for name in names])
    assert pixels_agree(images, pixels) >= 0.999


def test_a_constant_shift(worker, reference: Reference, monkeypatch) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    monkeypatch.setattr(reference.pipeline, "scheduler", scheduler)
    raw, _ = reference.run(noise(9, 1, 16, 12, 8), prompt=PROMPT, **SETTINGS)
    positive, negative = worker.encode([PROMPT, ""]).split(1)
    latent, settings = torch.zeros(1, 16, 12, 8), {"seed": 9, "steps": 8, "cfg": 5.0}
    shifted = worker.denoise(
        latent, positive, negative, schedule=wire.ShiftSchedule(3.0), **settings
    )
    assert relative_error(shifted, raw) <= LATENTS
    automatic = worker.denoise(latent, positive, negative, **settings)
    assert relative_error(automatic, raw) > 10 * LATENTS


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_sde", "uni_pc", "lms", "euler_ancestral"])
def test_another_sampler_goes_to_the_same_image(worker, sampler: str) -> None:
    """With enough small steps, every solver of the same equation converges to the same result.

    The stochastic solvers do so without new noise.
    """
    settings = {"seed": 9, "schedule": wire.NamedSchedule("simple"), "steps": 60}
    positive, latent = worker.encode([PROMPT]), torch.zeros(1, 16, 8, 8)
    still = wire.SamplerOptions(eta=0.0) if sampler in ("dpmpp_sde", "euler_ancestral") else None
    options = {"options": still} if still else {}
    one = worker.denoise(latent, positive, **settings)
    other = worker.denoise(latent, positive, sampler=sampler, **options, **settings)
    assert relative_error(other, one) <= 0.1


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde"])
def test_a_seed_fixes_the_noise_on_the_way_too(worker, sampler: str) -> None:
    positive, latent = worker.encode([PROMPT]), torch.zeros(1, 16, 8, 8)
    settings = {"sampler": sampler, "steps": 4}
    one = worker.denoise(latent, positive, seed=1, **settings)
    assert torch.equal(worker.denoise(latent, positive, seed=1, **settings), one)
    assert relative_error(worker.denoise(latent, positive, seed=2, **settings), one) > 0.1


def test_guidance_1_leaves_the_negative_prompt_out(worker, reference: Reference) -> None:
    positive, negative = worker.encode([PROMPT, NEGATIVE]).split(1)
    latent, settings = torch.zeros(1, 16, 8, 8), {"seed": 3, "steps": 3}
    alone = worker.denoise(latent, positive, cfg=1.0, **settings)
    assert torch.equal(worker.denoise(latent, positive, negative, cfg=1.0, **settings), alone)
    assert not torch.equal(worker.denoise(latent, positive, negative, cfg=2.0, **settings), alone)
    raw, _ = reference.run(
        noise(3, 1, 16, 8, 8), prompt=PROMPT, num_inference_steps=3, guidance_scale=1.0
    )
    assert relative_error(alone, raw) <= LATENTS


def test_batch_index_picks_the_draws_of_a_larger_batch(worker) -> None:
    positive = worker.encode([PROMPT])
    settings = {"seed": 4, "steps": 2}

    def entries(count: int, index: list[int]) -> torch.Tensor:
        latent = torch.zeros(count, 16, 4, 4)
        return worker.denoise(latent, positive, batch_index=index, **settings)

    both = entries(2, [3, 1])
    assert relative_error(both[:1], entries(1, [3])) <= 1e-5
    assert relative_error(both[1:], entries(1, [1])) <= 1e-5
    assert relative_error(both[:1], both[1:]) > 0.01


def test_a_noise_mask_keeps_what_it_covers(worker) -> None:
    positive = worker.encode([PROMPT])
    latent = noise(1, 1, 16, 8, 8)
    mask = torch.zeros(1, 8, 8)
    mask[:, :, 4:] = 1
    result = worker.denoise(latent, positive, seed=2, steps=3, noise_mask=mask)
    assert relative_error(result[..., :4], latent[..., :4]) <= 1e-5
    assert relative_error(result[..., 4:], latent[..., 4:]) > 0.1
