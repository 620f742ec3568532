"""Options that trade exactness for speed: the guidance interval and the step cache."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.hooks import FirstBlockCacheConfig, apply_first_block_cache
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.transformers import transformer_ovis_image
from PIL import Image

from comfy_node import wire
from comfy_node.texts import WorkerError
from judging.lists import Item
from judging.sources import Sampling, load_pipeline, sampled
from posters.poster import Poster
from real_worker import ROOT, RealWorker, command, generate
from reference import Reference, noise, relative_error

DEMO = ROOT / "worker" / "demo" / "model"
STEPS = 24
"""So many that `safe` answers some of the forwards."""
PROMPT = '"HELLO" in bold red letters on a yellow background'

THRESHOLDS = {"safe": 0.08, "fast": 0.15}
"""Of the step cache: the largest change of the first block's part that is no change."""


def test_guidance_in_an_interval(worker: RealWorker, reference: Reference) -> None:
    sigmas = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    positive, negative = noise(1, 1, 8, 64), noise(2, 1, 8, 64)
    ours = worker.denoise(
        torch.zeros(1, 16, 8, 8), positive, negative, seed=3, steps=5, cfg=4.0,
        schedule=wire.SigmasSchedule(sigmas), guided=wire.SigmaInterval(0.8, 0.4),
    )  # fmt: skip
    x = noise(3, 1, 16, 8, 8)
    for sigma, following in itertools.pairwise(sigmas):
        velocity = reference.velocity(x, sigma, positive)
        if sigma in (0.8, 0.6, 0.4):
            uncond = reference.velocity(x, sigma, negative)
            velocity = uncond + 4 * (velocity - uncond)
        x = x + (following - sigma) * velocity
    assert relative_error(ours, reference.to_raw(x)) <= 1e-4


@pytest.mark.parametrize(("start", "end"), [(0.2, 0.8), (1.5, 0.0), (0.5, -0.1)])
def test_an_interval_that_is_none_is_refused(worker: RealWorker, start: float, end: float) -> None:
    with pytest.raises(WorkerError, match=f"sigma {start:g} to {end:g}"):
        worker.denoise(
            torch.zeros(1, 16, 8, 8), noise(1, 1, 8, 64), noise(2, 1, 8, 64), cfg=2.0,
            guided=wire.SigmaInterval(start, end),
        )  # fmt: skip


def test_the_command_refuses_what_is_no_interval() -> None:
    result = command("generate", prompt="a", out="a.png", guidance_interval="0.5")
    assert result.returncode == 2
    assert "0.9,0.2" in result.stderr


@pytest.mark.parametrize("mode", THRESHOLDS)
def test_the_step_cache_is_first_block_cache(mode: str, tmp_path: Path) -> None:
    """The same picture as with diffusers' first-block cache.

    diffusers must be told that Ovis-Image's blocks return text and image as FLUX.1's do.
    """
    for name in ("OvisImageTransformerBlock", "OvisImageSingleTransformerBlock"):
        block = getattr(transformer_ovis_image, name)
        TransformerBlockRegistry.register(block, TransformerBlockMetadata(1, 0))
    pipeline = load_pipeline(DEMO)
    transformer = pipeline.transformer
    apply_first_block_cache(transformer, FirstBlockCacheConfig(THRESHOLDS[mode]))
    runs = []
    tail = transformer.single_transformer_blocks[-1].attn
    tail.register_forward_hook(lambda *_: runs.append(1))
    item = Item(7, Poster(PROMPT, ()), frozenset())
    theirs = sampled(pipeline, [item], Sampling(STEPS))[0]
    out = tmp_path / "ours.png"
    done = generate(
        model=DEMO, prompt=PROMPT, steps=STEPS, cfg=Sampling.guidance, seed=7, device="cpu",
        cache=mode, out=out,
    )  # fmt: skip
    answered = re.search(rf"the cache answered (\d+) of {2 * STEPS} forwards", done.stderr)
    assert int(answered[1]) == 2 * STEPS - len(runs) > 0
    ours = np.asarray(Image.open(out), np.int16)
    assert np.abs(ours - theirs).max() <= 1
