"""Pictures of the demo model by a worker, as the nodes ask for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from comfy_node import wire
from judging.sources import Sampling
from real_worker import RealWorker

STEPS, GUIDANCE = Sampling.steps, Sampling.guidance


def draw(
    worker: RealWorker,
    prompt: str,
    seed: int,
    width: int = 256,
    height: int = 256,
    *,
    steps: int = STEPS,
    adapters: Sequence[wire.AdapterUse] = (),
) -> np.ndarray:
    """A picture, uint8 [H, W, 3], by the three jobs of the nodes."""
    latent = worker.denoise(
        torch.zeros(1, 16, height // 8, width // 8),
        worker.encode([prompt]),
        worker.encode([""]),
        seed=seed,
        steps=steps,
        cfg=GUIDANCE,
        adapters=list(adapters),
    )
    return (worker.decode(latent)[0] * 255).round().byte().numpy()
