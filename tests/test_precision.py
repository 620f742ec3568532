"""In bfloat16 the worker's error against the float32 reference is at most the bfloat16 reference's.

On a CPU the worker stores weights in bfloat16 and computes in float32. The reference computes in
bfloat16 and also rounds the time of a step to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from comfy_node import wire
from make_tiny_checkpoint import make
from real_worker import RealWorker
from reference import Reference, noise, relative_error

ALLOWED = 1.1
PROMPT, NEGATIVE = "a red fox on a green hill, watercolor", "low quality"


class Trio:
    """The worker and the reference in bfloat16, and the reference in float32."""

    def __init__(self, worker: RealWorker, folder: Path) -> None:
        self.ours = worker
        self.theirs = Reference.load(folder, torch.bfloat16)
        self.exact = Reference.load(folder)

    def hold(self, ours: torch.Tensor, theirs: torch.Tensor, exact: torch.Tensor) -> None:
        """Checks our error against theirs."""
        our_error, their_error = relative_error(ours, exact), relative_error(theirs, exact)
        # Rounding must have changed something, or the comparison is void.
        assert our_error > 1e-5
        assert our_error <= ALLOWED * their_error


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda seed: f"weights{seed}")
def trio(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    """All three with the same float32 weights, which two of them round."""
    folder = tmp_path_factory.mktemp("precision")
    make(folder, seed=request.param)
    log = folder / "worker.log"
    with RealWorker(folder / "diffusers", log, device="cpu", precision="bf16") as worker:
        yield Trio(worker, folder / "diffusers")


def test_text_encoder(trio: Trio) -> None:
    prompts = [PROMPT, NEGATIVE, ""]
    trio.hold(trio.ours.encode(prompts), trio.theirs.encode(prompts), trio.exact.encode(prompts))


@pytest.mark.parametrize("sigma", [1.0, 0.307])
def test_transformer(trio: Trio, sigma: float) -> None:
    conditioning, shape = noise(5, 1, 40, 64), (1, 16, 8, 12)
    schedule = wire.SigmasSchedule([sigma, 0.0])
    end = trio.ours.denoise(torch.zeros(shape), conditioning, seed=6, schedule=schedule)
    sigma = torch.tensor(sigma).item()  # as float32 has it
    x = sigma * noise(6, *shape)
    trio.hold(
        (x - trio.exact.to_model(end)) / sigma,
        trio.theirs.velocity(x, sigma, conditioning),
        trio.exact.velocity(x, sigma, conditioning),
    )


def test_vae(trio: Trio) -> None:
    seed = 4
    raw = noise(seed, 1, 16, 8, 12)
    trio.hold(trio.ours.decode(raw), trio.theirs.decode(raw), trio.exact.decode(raw))
    image = noise(seed, 1, 64, 96, 3).sigmoid()
    trio.hold(
        trio.ours.vae_encode(image), trio.theirs.vae_encode(image), trio.exact.vae_encode(image)
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_eight_steps_with_guidance(trio: Trio, seed: int) -> None:
    shape = (1, 16, 8, 12)
    positive, negative = trio.ours.encode([PROMPT, NEGATIVE]).split(1)
    ours = trio.ours.denoise(torch.zeros(shape), positive, negative, seed=seed, steps=8, cfg=5.0)
    settings = {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "num_inference_steps": 8,
        "guidance_scale": 5.0,
    }
    theirs, _ = trio.theirs.run(noise(seed, *shape), **settings)
    exact, _ = trio.exact.run(noise(seed, *shape), **settings)
    trio.hold(ours, theirs, exact)
