#!/usr/bin/env python3
"""Makes `tests/golden/sampling.*`: ComfyUI's sigmas and samplers, for tests without it.

Usage: make_golden_sampling.py COMFYUI [FOLDER], with a Python that has ComfyUI's
requirements. The files in the repository were made with ComfyUI 0.18.1.

ComfyUI's own `KSampler` calculates the sigmas, cuts the window out of them and runs
`KSAMPLER.sample`; only the model is a toy: :func:`denoised`, a fixed function of the
latents and sigma. Latents, mask and toy are made of sines, so that tests in another
language can make them too.

`sampling.json`, a list with an entry for each run: its settings, the `sigmas` that were
run through, and `result`, the name of its tensor in `sampling.safetensors` (float32,
`SHAPE`). `shift` is ModelSamplingAuraFlow's, or `null` for ModelSamplingFlux with
`IMAGE_TOKENS`. A `scheduler` of `null` means that `given` was given. `euler_ancestral`
draws its own noise, on a CPU; `dpmpp_2m_sde` and `dpmpp_sde` are given the same in place
of their Brownian tree's.

`schedules` in the same file holds sigmas alone, of more steps and shifts.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"

SHAPE = (2, 4, 4, 4)
IMAGE_TOKENS = 1024
SEED = 2**32 + 77

SCHEDULERS = (
    "simple",
    "normal",
    "sgm_uniform",
    "ddim_uniform",
    "karras",
    "exponential",
    "beta",
    "linear_quadratic",
    "kl_optimal",
)
SAMPLERS = (
    "euler",
    "euler_ancestral",
    "heun",
    "dpm_2",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_sde",
    "res_multistep",
    "uni_pc",
    "lms",
    "ddim",
)
BROWNIAN = ("dpmpp_2m_sde", "dpmpp_sde")

# Default settings of a run.
RUN = {
    "scheduler": "simple",
    "shift": 3.0,
    "steps": 6,
    "denoise": 1.0,
    "start": 0,
    "end": None,
    "leftover_noise": False,
    "add_noise": True,
    "mask": False,
    "latent": False,
    "batch_index": None,
    "options": {},
    "given": None,
}

# For every sampler: each scheduler, and variations of the other settings.
SITUATIONS = (
    *({"scheduler": name} for name in SCHEDULERS),
    {"scheduler": "karras", "shift": None, "steps": 11},
    {"steps": 1},
    {"steps": 2},
    {"steps": 3},
    {"steps": 20},
    {"steps": 50, "shift": 1.0},
    {"denoise": 0.4, "latent": True},
    {"denoise": 0.73, "latent": True, "scheduler": "beta", "mask": True},
    {"mask": True, "latent": True},
    {"mask": True, "latent": True, "shift": None, "batch_index": [3, 1]},
    {"end": 3, "leftover_noise": True},
    {"end": 3, "latent": True},
    {"start": 2, "latent": True, "add_noise": False},
    {"start": 1, "end": 4, "latent": True, "leftover_noise": True, "mask": True, "steps": 8},
    {"scheduler": None, "given": [1.0, 0.9, 0.55, 0.3, 0.12, 0.0], "steps": 5},
    {"scheduler": None, "given": [0.8, 0.5, 0.25], "steps": 2, "latent": True},
)
OPTIONS = (
    ("euler_ancestral", {"eta": 0.4, "s_noise": 1.1}),
    ("euler_ancestral", {"eta": 0.0}),
    ("dpmpp_2m_sde", {"eta": 0.5, "s_noise": 0.9, "solver_type": "heun"}),
    ("dpmpp_2m_sde", {"eta": 0.0}),
    ("dpmpp_sde", {"eta": 0.5, "s_noise": 0.9, "r": 0.7}),
    ("dpmpp_sde", {"eta": 0.0}),
    ("lms", {"order": 2}),
    ("uni_pc", {"solver_type": "bh2"}),
)
SCHEDULE_STEPS = (1, 2, 3, 7, 20, 50, 120)
SCHEDULE_SHIFTS = (None, 1.0, 3.0, 6.5)


def runs() -> list[dict]:
    """The settings of all runs."""
    usual = [{"sampler": name, **what} for name in SAMPLERS for what in SITUATIONS]
    others = [{"sampler": name, "options": options} for name, options in OPTIONS]
    return [RUN | run for run in usual + others]


def wave(torch, pitch: float, shape=SHAPE):
    """Values of a sine, by the index of each element."""
    numbers = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(numbers * pitch).float().reshape(shape)


def denoised(torch, x, sigma):
    """The toy model's estimate: not linear in the latents, and different for every sigma."""
    sigma = sigma.reshape(-1, 1, 1, 1)
    return (0.7 - 0.4 * sigma) * torch.cos(1.7 * x) + 0.3 * x + 0.5 * wave(torch, 0.61)


def table(model_sampling, shift: float | None):
    """ComfyUI's model sampling for a rectified flow."""
    if shift is None:
        kind, mu = model_sampling.ModelSamplingFlux, (1.15 - 0.5) / (4096 - 256)
        settings = {"shift": mu * IMAGE_TOKENS + 0.5 - mu * 256}
    else:
        kind, settings = model_sampling.ModelSamplingDiscreteFlow, {"shift": shift}
        settings["multiplier"] = 1.0
    made = type("Sampling", (kind, model_sampling.CONST), {})()
    made.set_parameters(**settings)
    return made


class Toy:
    """The parts of a model and its guider that ComfyUI's samplers need."""

    def __init__(self, torch, sampling) -> None:
        self.torch = torch
        self.model_sampling = sampling
        self.inner_model = self.model_patcher = self
        self.load_device = torch.device("cpu")
        self.model_options = {}

    def get_model_object(self, name: str):
        return getattr(self, name)

    def scale_latent_inpaint(self, sigma, noise, latent_image, **_):
        shape = [-1, *[1] * (noise.ndim - 1)]
        return self.model_sampling.noise_scaling(sigma.reshape(shape), noise, latent_image)

    def __call__(self, x, sigma, **_):
        return denoised(self.torch, x, sigma)


def sample(settings: dict) -> tuple[list[float], object]:
    """The sigmas that ComfyUI uses, and the resulting latents."""
    import comfy.model_sampling
    import comfy.sample
    import comfy.samplers
    import torch

    toy = Toy(torch, table(comfy.model_sampling, settings["shift"]))
    latent = wave(torch, 0.37) if settings["latent"] else torch.zeros(SHAPE)
    noise = torch.zeros(SHAPE)
    if settings["add_noise"]:
        noise = comfy.sample.prepare_noise(latent, SEED, settings["batch_index"])
    mask = None
    if settings["mask"]:
        mask = wave(torch, 0.9, (1, 1, *SHAPE[2:])).abs().repeat(SHAPE[0], SHAPE[1], 1, 1)
    name, options = settings["sampler"], dict(settings["options"])
    if name == "uni_pc" and options.pop("solver_type", "bh1") == "bh2":
        name = "uni_pc_bh2"
    if settings["sampler"] in BROWNIAN:
        generator = torch.Generator().manual_seed(SEED + 1)
        options["noise_sampler"] = lambda *_: torch.randn(SHAPE, generator=generator)
    ran: list[float] = []

    def run(model, noise, positive, negative, cfg, device, sampler, sigmas, *_, **rest):
        ran.extend(sigmas.tolist())
        sampler.extra_options = options
        extra = {"model_options": {}, "seed": rest["seed"]}
        latent, mask = rest["latent_image"], rest["denoise_mask"]
        return sampler.sample(model, sigmas, extra, None, noise, latent, mask, disable_pbar=True)

    comfy.samplers.sample = run
    ksampler = comfy.samplers.KSampler(
        toy, settings["steps"], toy.load_device, name, settings["scheduler"], settings["denoise"]
    )
    given = settings["given"]
    result = ksampler.sample(
        noise,
        None,
        None,
        1.0,
        latent_image=latent,
        start_step=settings["start"],
        last_step=settings["end"],
        force_full_denoise=not settings["leftover_noise"],
        denoise_mask=mask,
        sigmas=None if given is None else torch.tensor(given),
        seed=SEED,
    )
    return ran, result


def schedules() -> list[dict]:
    """Sigmas by scheduler, shift and number of steps."""
    import comfy.model_sampling
    import comfy.samplers

    return [
        {
            "scheduler": name,
            "shift": shift,
            "steps": steps,
            "sigmas": numbers(
                comfy.samplers.calculate_sigmas(
                    table(comfy.model_sampling, shift), name, steps
                ).tolist()
            ),
        }
        for name in SCHEDULERS
        for shift in SCHEDULE_SHIFTS
        for steps in SCHEDULE_STEPS
        # ComfyUI divides by the number of steps minus one.
        if (name, steps) != ("kl_optimal", 1)
    ]


def numbers(sigmas: list[float]) -> list[float]:
    """Values rounded to float32 precision, to keep the file small."""
    return [float(f"{sigma:.8g}") for sigma in sigmas]


def make() -> tuple[dict, dict]:
    """The contents of both files. ComfyUI must be importable."""
    entries, tensors = [], {}
    for number, settings in enumerate(runs()):
        sigmas, result = sample(settings)
        name = str(number)
        assert result.isfinite().all(), settings
        changed = {key: value for key, value in settings.items() if value != RUN.get(key)}
        entries.append({**changed, "sigmas": numbers(sigmas), "result": name})
        tensors[name] = result.contiguous().clone()
    return {"defaults": RUN, "runs": entries, "schedules": schedules()}, tensors


def main(checkout: str, folder: Path = GOLDEN) -> None:
    sys.path.insert(0, checkout)
    from comfy.cli_args import args
    from safetensors.torch import save_file

    args.cpu = True

    described, tensors = make()
    lists = (
        f"{json.dumps(key)}: [\n" + ",\n".join(json.dumps(e) for e in described[key]) + "\n]"
        for key in ("runs", "schedules")
    )
    defaults = f'"defaults": {json.dumps(described["defaults"])}'
    text = "{\n" + ",\n".join([defaults, *lists]) + "\n}\n"
    (folder / "sampling.json").write_text(text)
    save_file(tensors, folder / "sampling.safetensors")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
