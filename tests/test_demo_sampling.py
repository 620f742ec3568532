"""The demo model's samplers: that of the reference pipeline, and the stochastic ones of GRPO."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import OvisImagePipeline

import tiny_demo
from judging import sources
from judging.lists import Item
from posters.poster import Phrase, Poster
from stages import sampling, stochastic
from training import models as model_parts


@pytest.fixture(scope="module")
def models() -> model_parts.Models:
    return tiny_demo.initial()


def test_the_sampler_draws_what_the_pipeline_draws(models):
    pipeline = OvisImagePipeline(
        scheduler=model_parts.scheduler(), vae=models.vae, text_encoder=models.text_encoder,
        tokenizer=models.tokenizer, transformer=models.transformer,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    items = [
        (3, Poster('a sign "OPEN"', (Phrase("OPEN"),), width=64, height=64)),
        (4, Poster("“夜市”", (Phrase("夜市"),), width=96, height=48)),
        (5, Poster('"SALE" on red', (Phrase("SALE"),), width=64, height=64)),
    ]
    drawn = sampling.Sampler(models, 3, 4.5, batch=2).pictures(items)
    for (seed, poster), picture in zip(items, drawn, strict=True):
        [image] = pipeline(
            prompt=poster.prompt, negative_prompt="", guidance_scale=4.5, num_inference_steps=3,
            height=poster.height, width=poster.width, output_type="np",
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images  # fmt: skip
        wanted = (image * 255).round()
        assert picture.shape == (poster.height, poster.width, 3)
        assert np.abs(picture - wanted).max() <= 1
        assert picture.std() > 1


@pytest.mark.parametrize("seeds", [(7, 8), (7, 7)])
def test_lists_are_saved_where_they_are_looked_for(models, tmp_path, seeds):
    items = [Item(seed, Poster("", (), width=64, height=64), frozenset()) for seed in seeds]
    sampling.save_lists(sampling.Sampler(models, 1, 1.0, 2), {"plain": items}, tmp_path)
    found = sources.read_folder(tmp_path / "plain", sources.file_names(items))
    assert [picture.shape for picture in found] == [(64, 64, 3)] * 2


MEANS, SHARES = torch.tensor([-1.0, 1.5]), torch.tensor([0.4, 0.6])


def mixture_velocity(x: torch.Tensor, sigma: torch.Tensor, deviation: float) -> torch.Tensor:
    """E[e - x0 | x] for a mixture of two Gaussians of one deviation."""
    variance = (1 - sigma) ** 2 * deviation**2 + sigma**2
    distance = x[:, None] - (1 - sigma) * MEANS
    posterior = torch.softmax(SHARES.log() - distance.square() / (2 * variance), 1)
    clean = MEANS + (1 - sigma) * deviation**2 / variance * distance
    return (posterior * (sigma / variance * distance - clean)).sum(1)


def shifted(steps: int) -> torch.Tensor:
    """The scheduler's sigmas for 256 tokens."""
    plain = torch.linspace(1, 1 / steps, steps)
    sigmas = math.exp(0.5) * plain / (1 + (math.exp(0.5) - 1) * plain)
    return torch.cat([sigmas, torch.zeros(1)])


@pytest.mark.parametrize(
    ("kind", "level", "mean_tolerance", "deviation_tolerance"),
    # A hundredth of the distance between the means is 0.025.
    [("sde", 0.7, 0.04, 0.02), ("cps", 0.4, 0.06, 0.02), ("cps", 0.7, 0.10, 0.04)],
)
def test_stochastic_samplers_keep_the_marginals(kind, level, mean_tolerance, deviation_tolerance):
    torch.manual_seed(1)
    sigmas = shifted(60)
    plain = drawn = torch.randn(20000)
    for sigma, following in pairwise(sigmas):
        plain = plain + (following - sigma) * mixture_velocity(plain, sigma, 0.3)
        velocity = mixture_velocity(drawn, sigma, 0.3)
        step = stochastic.KINDS[kind](drawn, velocity, sigma, following, level, top=sigmas[1])
        drawn = step[0] + step[1] * torch.randn_like(drawn)
    assert abs(drawn.mean() - plain.mean()) < mean_tolerance
    assert abs(drawn.std() / plain.std() - 1) < deviation_tolerance
    # The paths are different ones: these are samples, not the ODE's results.
    assert (drawn - plain).abs().mean() > 0.3


def test_coefficients_are_preserved_at_every_step():
    """For a target with one answer, 1.5, x is (1 - sigma) 1.5 + sigma e after any number of steps;
    Flow-GRPO's SDE has that only for many."""
    torch.manual_seed(2)
    sigmas = shifted(10)
    excess = {}
    for kind in ("cps", "sde"):
        drawn, worst = torch.randn(40000), 0.0
        for sigma, following in pairwise(sigmas[:-1]):
            velocity = (drawn - 1.5) / sigma
            step = stochastic.KINDS[kind](drawn, velocity, sigma, following, 0.7, top=sigmas[1])
            drawn = step[0] + step[1] * torch.randn_like(drawn)
            worst = max(worst, abs(drawn.std().item() / following.item() - 1))
            assert abs(drawn.mean() - (1 - following) * 1.5) < 0.03
        excess[kind] = worst
    assert excess["cps"] < 0.015 < excess["sde"]


def test_the_variance_that_preserved_coefficients_lose():
    """The loss that the module's description states, for a Gaussian target of deviation 0.5."""
    sigma, level = torch.tensor(0.6), 0.7
    variance = (0.4 * 0.5) ** 2 + 0.6**2
    velocity = (0.6 - 0.4 * 0.5**2) / variance  # of x = 1
    mean, deviation = stochastic.cps(torch.tensor(1.0), velocity, sigma, sigma, level)
    lost = variance - (mean**2 * variance + deviation**2)
    c = 0.6 - math.sqrt(0.6**2 - deviation**2)
    assert lost == pytest.approx(c**2 * (1 - 0.6**2 / variance), rel=1e-4)


@pytest.mark.parametrize("kind", ["cps", "sde"])
def test_the_last_step_is_the_odes(kind):
    latents, velocity = torch.randn(2, 5, 64), torch.randn(2, 5, 64)
    sigma = torch.tensor(0.3)
    step = stochastic.KINDS[kind](latents, velocity, sigma, torch.tensor(0.0), 0.7, top=sigma)
    assert torch.allclose(step[0], latents - 0.3 * velocity, atol=1e-6)
    assert step[1] == 0
