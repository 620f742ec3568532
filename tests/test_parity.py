"""Each network of the running worker matches the reference in float32."""

from __future__ import annotations

import pytest
import torch

from comfy_node import wire
from reference import Reference, noise, relative_error

TOLERANCE = 1e-4
PROMPTS = ["a red fox on a green hill", 'a poster with the text "HELLO"', "", "zürich 雪 12 cats\n"]

# Latent heights and widths: square, the two longest, one patch, and odd patch counts.
SIZES = [(16, 16), (4, 16), (16, 4), (2, 2), (6, 10)]
TEXT_LENGTHS = [1, 17, 256, 300]


@pytest.mark.parametrize("max_sequence_length", [256, 64])
def test_text_encoder(worker, reference: Reference, max_sequence_length: int) -> None:
    ours = worker.encode(PROMPTS, max_sequence_length)
    theirs = reference.encode(PROMPTS, max_sequence_length)
    assert relative_error(ours, theirs) <= TOLERANCE
    # A short prompt is a small part of the padded sequence, so it is also compared alone.
    for one, other in zip(ours, theirs, strict=True):
        assert relative_error(one, other) <= TOLERANCE


def velocity(
    worker, reference: Reference, latent: torch.Tensor, conditioning: torch.Tensor, sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The worker's velocity at `sigma`, and the reference's.

    The worker's is computed from the result of one step down to 0. An all-zero `latent` is an empty
    one.
    """
    seed = 2**32 + 11
    original = reference.to_model(latent) if latent.any() else latent
    sigma = torch.tensor(sigma).item()  # as float32 has it
    x = sigma * noise(seed, *latent.shape) + (1 - sigma) * original
    schedule = wire.SigmasSchedule([sigma, 0.0])
    end = worker.denoise(latent, conditioning, seed=seed, schedule=schedule)
    ours = (x - reference.to_model(end)) / sigma
    return ours, reference.velocity(x, sigma, conditioning)


@pytest.mark.parametrize("text_length", TEXT_LENGTHS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_transformer(worker, reference, height: int, width: int, text_length: int) -> None:
    latent = torch.zeros(2, 16, height, width)
    conditioning = noise(text_length, 2, text_length, 64)
    ours, theirs = velocity(worker, reference, latent, conditioning, 1.0)
    for one, other in zip(ours, theirs, strict=True):
        assert relative_error(one, other) <= TOLERANCE
    # The entries of a batch differ.
    assert relative_error(ours[:1], theirs[1:]) > 0.01


@pytest.mark.parametrize("sigma", [0.87, 0.5, 0.123])
def test_transformer_at_other_times_from_an_image(worker, reference, sigma: float) -> None:
    latent = noise(7, 1, 16, 8, 12)
    conditioning = worker.encode(PROMPTS[:1])
    ours, theirs = velocity(worker, reference, latent, conditioning, sigma)
    assert relative_error(ours, theirs) <= TOLERANCE


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_vae_decode(worker, reference: Reference, height: int, width: int) -> None:
    raw = noise(3, 2, 16, height, width)
    ours, theirs = worker.decode(raw), reference.decode(raw)
    assert ours.shape == (2, 8 * height, 8 * width, 3)
    assert relative_error(ours, theirs) <= TOLERANCE
    # Both clamp, so the comparison is meaningful only if most values are inside the range.
    assert ((theirs > 0) & (theirs < 1)).double().mean() > 0.5


@pytest.mark.parametrize(("height", "width"), [(64, 64), (16, 64), (64, 16), (48, 80)])
def test_vae_encode(worker, reference: Reference, height: int, width: int) -> None:
    image = torch.rand(2, height, width, 3, generator=torch.Generator().manual_seed(5))
    ours, theirs = worker.vae_encode(image), reference.vae_encode(image)
    assert ours.shape == (2, 16, height // 8, width // 8)
    assert relative_error(ours, theirs) <= TOLERANCE


@pytest.mark.parametrize(
    ("seed", "shape"),
    [
        (0, (1, 16, 16, 16)),
        (2**32, (2, 16, 6, 10)),
        (2**63 + 7, (1, 16, 16, 4)),
        (5, (1, 16, 2, 2)),
    ],
)
def test_noise_of_a_seed(worker, reference, seed: int, shape: tuple[int, ...]) -> None:
    # A step from 1 to just below 1 leaves the noise with a trace of the velocity.
    sigmas = [1.0, 1.0 - 2.0**-20]
    conditioning = torch.zeros(1, 1, 64)
    moved = worker.denoise(
        torch.zeros(shape), conditioning, seed=seed, schedule=wire.SigmasSchedule(sigmas)
    )
    start = noise(seed, *shape)
    velocity = reference.velocity(start, 1.0, conditioning)
    expected = start + (sigmas[1] - sigmas[0]) * velocity
    # A result above sigma 0 is divided by 1 - sigma, as a native sampler does.
    found = reference.to_model(moved) * (1 - sigmas[1])
    assert (found - expected).abs().max() <= 4e-6
