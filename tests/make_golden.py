#!/usr/bin/env python3
"""Makes `tests/golden/`: PyTorch's noise and diffusers' sigmas, for tests without either.

`noise.safetensors`, float32, standard normal values from PyTorch's CPU generator:

- `seed{S}_n{N}`: N values drawn at once by a generator seeded with S
- `seed{S}_{A}x{B}x{C}x{D}`: the same, of that shape
- `drawn_seed{S}_{I}_n{N}`: draw number I, of N values, from one generator that was
  seeded with S and made all draws with a lower number before

`sigmas.json`, a list with an entry for each schedule: `steps`, `image_tokens`,
`shift` (`null` if it follows from the number of image tokens) and the
`steps + 1` `sigmas`.

The files in the repository were made with the versions in `tests/requirements.txt`;
PyTorch's own builds differ from each other by up to 2e-6 in the noise.
"""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ovis_image.pipeline_ovis_image import calculate_shift
from safetensors.torch import save_file

GOLDEN = Path(__file__).parent / "golden"

SEEDS = (0, 42, 2**32 - 1, 2**32, 2**32 + 5, 2**63 + 7)

# Below 16 values PyTorch draws one by one, from 16 on in blocks of 16 whose last
# one is drawn again when the count is not a multiple of 16.
SMALL = range(1, 41)
LARGE = (47, 48, 49, 63, 64, 100, 255, 256, 257, 1000, 1023, 1024, 1025, 2047, 4095, 4096)
SHAPES = ((1, 16, 32, 32), (2, 16, 8, 12))
LARGE_SEEDS = (0, 2**32 + 5)
SHAPE_SEEDS = (42, 2**63 + 7)

# An odd number of single values leaves half of a Box-Muller pair for the next draw.
DRAWS = (1, 1, 2, 3, 16, 5, 17, 1, 40, 15, 4, 256, 7, 7, 33, 1)

STEPS = (1, 2, 3, 8, 20, 50)
IMAGE_TOKENS = (16, 64, 256, 1024, 4080, 4096, 16384)
SHIFTS = (None, 1.0, 1.15, 3.0, 6.5)


def noise() -> dict[str, torch.Tensor]:
    """All tensors of `noise.safetensors`."""
    tensors = {}
    for seed in SEEDS:
        counts = [*SMALL, *(LARGE if seed in LARGE_SEEDS else ())]
        tensors |= {f"seed{seed}_n{count}": draw(seed, count) for count in counts}
        if seed in SHAPE_SEEDS:
            for shape in SHAPES:
                tensors[f"seed{seed}_{'x'.join(map(str, shape))}"] = draw(seed, *shape)
        generator = torch.Generator().manual_seed(seed)
        for index, count in enumerate(DRAWS):
            values = torch.randn(count, generator=generator)
            tensors[f"drawn_seed{seed}_{index}_n{count}"] = values
    return tensors


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sigmas(steps: int, image_tokens: int, shift: float | None) -> list[float]:
    """The sigmas of a run, including the final 0."""
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=shift is None, shift=3.0 if shift is None else shift
    )
    mu = None if shift is not None else calculate_shift(image_tokens)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    return scheduler.sigmas.tolist()


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    save_file(noise(), GOLDEN / "noise.safetensors")
    entries = [
        {"steps": n, "image_tokens": tokens, "shift": shift, "sigmas": sigmas(n, tokens, shift)}
        for shift in SHIFTS
        # A given shift does not depend on the image's size.
        for tokens in (IMAGE_TOKENS if shift is None else IMAGE_TOKENS[-1:])
        for n in STEPS
    ]
    text = ",\n".join(json.dumps(entry) for entry in entries)
    (GOLDEN / "sigmas.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main()
