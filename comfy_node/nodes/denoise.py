"""Denoising, with the meanings of ComfyUI's KSampler."""

from __future__ import annotations

import math

import comfy.model_sampling
import comfy.samplers
import comfy.utils
import torch
from comfy_api.latest import io

from .. import wire
from ..errors import WorkerError
from ..sizes import LATENT_CHANNELS, LATENT_PIXELS
from .jobs import from_wire, run_job, to_wire
from .latent import PIXELS_KEY
from .worker import CATEGORY, Worker

# What a conditioning's dict may hold without changing the image: Ovis-Image has
# neither a pooled vector nor a guidance embedding, and these values are the
# defaults of what native nodes write there.
_WITHOUT_EFFECT = {"pooled_output", "guidance"}
_DEFAULTS = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}


def plain_conditioning(conditioning: list, name: str, batch: int) -> torch.Tensor:
    """The one tensor ``[1 or B, T, D]`` of a CONDITIONING that is nothing more.

    Raises :class:`WorkerError` for what would otherwise be silently ignored.
    """
    if len(conditioning) != 1:
        raise WorkerError(
            f"The {name} conditioning has {len(conditioning)} entries, Ovis Denoise takes one.",
            "Put the texts into one prompt instead of combining conditionings.",
        )
    tensor, options = conditioning[0]
    used = sorted(
        key
        for key, value in options.items()
        if value is not None
        and key not in _WITHOUT_EFFECT
        and not (key in _DEFAULTS and value == _DEFAULTS[key])
    )
    if used:
        raise WorkerError(
            f"The {name} conditioning asks for {', '.join(used)}, which Ovis Denoise cannot do.",
            "Connect the conditioning without the node that adds it.",
        )
    if tensor.shape[0] == 1:
        return tensor
    return comfy.utils.repeat_to_batch_size(tensor, batch)


def latent_samples(latent: dict) -> torch.Tensor:
    """The samples ``[B, 16, H/8, W/8]``; an empty latent of another model is reshaped.

    Newer ComfyUI's empty latents say how many pixels a position stands for.
    """
    samples = latent["samples"]
    if samples.ndim == 4 and not samples.any():
        scale = latent.get(PIXELS_KEY, LATENT_PIXELS) / LATENT_PIXELS
        batch, _, height, width = samples.shape
        samples = samples.new_zeros(
            [batch, LATENT_CHANNELS, round(height * scale), round(width * scale)]
        )
    if samples.ndim != 4 or samples.shape[1] != LATENT_CHANNELS:
        raise WorkerError(
            f"The latent has the shape {list(samples.shape)}, Ovis-Image's is "
            f"[batch, {LATENT_CHANNELS}, height / 8, width / 8].",
            "Encode the image with Ovis VAE Encode or with FLUX.1's VAE.",
        )
    return samples


def latent_mask(latent: dict, samples: torch.Tensor) -> torch.Tensor | None:
    """The noise mask ``[1 or B, H/8, W/8]``, resized as ComfyUI's samplers do."""
    mask = latent.get("noise_mask")
    if mask is None:
        return None
    height, width = samples.shape[-2:]
    entries = mask.reshape((-1, 1, mask.shape[-2], mask.shape[-1])).shape[0]
    batch = 1 if entries == 1 else samples.shape[0]
    return comfy.utils.reshape_mask(mask.float(), (batch, 1, height, width))[:, 0]


def shifted_sigmas(shift: float, steps: int, denoise: float) -> list[float]:
    """KSampler's sigmas with the scheduler `simple`, after ModelSamplingAuraFlow.

    ComfyUI makes them: `simple` rounds to a thousandth, which can be seen in an image.
    """
    sampling = comfy.model_sampling.ModelSamplingDiscreteFlow()
    sampling.set_parameters(shift=shift, multiplier=1.0)
    whole = steps if denoise > 0.9999 else int(steps / denoise)
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", whole)[-(steps + 1) :]
    # Above 1000 steps some are there twice: a step from one to itself changes nothing.
    return torch.unique_consecutive(sigmas).tolist()


class OvisDenoise(io.ComfyNode):
    """CONDITIONING and LATENT to LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        slider = io.NumberDisplay.slider
        return io.Schema(
            node_id="OvisDenoise",
            display_name="Ovis Denoise",
            category=CATEGORY,
            description="Denoises a latent with Ovis-Image on the worker.",
            inputs=[
                Worker.Input("worker"),
                io.Conditioning.Input("positive"),
                io.Latent.Input("latent"),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed gives the same noise as in ComfyUI's KSampler.",
                ),
                io.Int.Input("steps", default=50, min=1, max=100, display_mode=slider),
                io.Float.Input(
                    "cfg",
                    default=5.0,
                    min=1.0,
                    max=20.0,
                    step=0.1,
                    round=0.01,
                    display_mode=slider,
                    tooltip="How closely to follow the prompt. 1 needs no negative and takes half "
                    "the time.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    display_mode=slider,
                    tooltip="How much of the latent is made anew; below 1 for image to image.",
                ),
                io.Float.Input(
                    "shift",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    round=0.001,
                    display_mode=slider,
                    tooltip="0 chooses by the size of the image, as the model's authors do. Above "
                    "0 it is ModelSamplingAuraFlow's; ComfyUI's template for Ovis-Image uses 3.",
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="May be left out when cfg is 1."
                ),
            ],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(
        cls,
        worker,
        positive: list,
        latent: dict,
        seed: int,
        steps: int,
        cfg: float,
        denoise: float,
        shift: float,
        negative: list | None = None,
    ) -> io.NodeOutput:
        """The latent with new samples; its mask and batch index stay."""
        samples = latent_samples(latent)
        rest = {key: value for key, value in latent.items() if key != PIXELS_KEY}
        if denoise <= 0:
            return io.NodeOutput({**rest, "samples": samples})
        batch = samples.shape[0]
        guided = not math.isclose(cfg, 1.0)
        tensors = [to_wire("positive", plain_conditioning(positive, "positive", batch))]
        if guided:
            if negative is None:
                raise WorkerError(
                    f"With cfg {cfg:g} Ovis Denoise needs a negative conditioning.",
                    "Connect an Ovis Prompt Encode with an empty prompt, or set cfg to 1.",
                )
            tensors.append(to_wire("negative", plain_conditioning(negative, "negative", batch)))
        tensors.append(to_wire("latent", samples))
        mask = latent_mask(latent, samples)
        if mask is not None:
            tensors.append(to_wire("noise_mask", mask))
        batch_index = latent.get("batch_index")
        schedule: wire.Schedule = wire.AutoSchedule()
        if shift > 0:
            schedule = wire.SigmasSchedule(shifted_sigmas(shift, steps, denoise))
            steps, denoise = len(schedule.sigmas) - 1, 1.0
        request = wire.DenoiseRequest(
            seed=seed,
            steps=steps,
            cfg=cfg if guided else 1.0,
            sampler="euler",
            schedule=schedule,
            denoise=denoise,
            batch_index=None if batch_index is None else [int(index) for index in batch_index],
        )
        node_id = cls.hidden.unique_id
        bar = comfy.utils.ProgressBar(steps, node_id=node_id)
        result = await run_job(
            worker,
            node_id,
            request,
            tensors,
            lambda progress: bar.update_absolute(progress.step, progress.total),
        )
        return io.NodeOutput({**rest, "samples": from_wire(result, "latent")})
