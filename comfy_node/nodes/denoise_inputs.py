"""Converts ComfyUI's CONDITIONING and LATENT to the tensors of a denoise job."""

from __future__ import annotations

import comfy.utils
import torch

from .. import wire
from ..pictures.sizes import LATENT_CHANNELS, LATENT_PIXELS
from ..texts import WorkerError, printable, say
from ..wire import WireTensor
from . import inputs
from .jobs import to_wire
from .latent import PIXELS_KEY

# Options of a conditioning that do not change the image. Ovis-Image has neither a pooled vector nor
# a guidance embedding; the other values are the defaults that native nodes write.
_WITHOUT_EFFECT = {"pooled_output", "guidance"}
_DEFAULTS = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}


def single_conditioning(conditioning: object, name: str, batch: int) -> torch.Tensor:
    """The tensor ``[1 or B, T, D]`` of a CONDITIONING with one entry and no options.

    Raises :class:`WorkerError` for entries and options that the worker would have to ignore.
    """
    entries = inputs.conditioning(name, conditioning)
    if len(entries) != 1:
        raise WorkerError(
            say(
                "The {name} conditioning has {count} entries; Ovis Denoise accepts one.",
                name=name,
                count=len(entries),
            ),
            say("Put the texts into one prompt instead of combining conditionings."),
        )
    tensor, options = entries[0]
    used = sorted(
        printable(key, 60)
        for key, value in options.items()
        if value is not None and key not in _WITHOUT_EFFECT and not _is_default(key, value)
    )
    if used:
        raise WorkerError(
            say(
                "The {name} conditioning asks for {what}, which Ovis Denoise does not support.",
                name=name,
                what=", ".join(used),
            ),
            say("Connect the conditioning without the node that adds it."),
        )
    if tensor.shape[0] == 1:
        return tensor
    return comfy.utils.repeat_to_batch_size(tensor, batch)


def _is_default(key: str, value: object) -> bool:
    return isinstance(value, int | float) and _DEFAULTS.get(key) == value


def check_width(tensors: list[WireTensor], capabilities: wire.Capabilities) -> None:
    """Raises :class:`WorkerError` if a conditioning comes from another model's text encoder."""
    for tensor in tensors:
        width = tensor.header.shape[-1]
        is_conditioning = tensor.header.name in ("positive", "negative")
        if is_conditioning and width != capabilities.conditioning_width:
            raise WorkerError(
                say(
                    "The {name} conditioning has the width {width}; the worker's model "
                    "expects {wanted}.",
                    name=tensor.header.name,
                    width=width,
                    wanted=capabilities.conditioning_width,
                ),
                say("Encode the prompt with Ovis Prompt Encode on the same worker."),
            )


def latent_samples(latent: object, name: str = "latent") -> torch.Tensor:
    """The samples ``[B, 16, H/8, W/8]``; an empty latent of another model is converted.

    ``name`` is the input's, for errors, here and below.

    Newer versions of ComfyUI store in an empty LATENT how many pixels one position stands for.
    """
    samples = inputs.latent(name, latent)
    if samples.ndim == 4 and not samples.any():
        pixels = latent.get(PIXELS_KEY, LATENT_PIXELS)
        scale = inputs.number(f"{name}.{PIXELS_KEY}", pixels, 1, 256) / LATENT_PIXELS
        batch, _, height, width = samples.shape
        samples = samples.new_zeros(
            [batch, LATENT_CHANNELS, round(height * scale), round(width * scale)]
        )
    check_latent_shape(samples)
    return samples


def check_latent_shape(samples: torch.Tensor) -> None:
    """Raises :class:`WorkerError` if the latent belongs to another kind of model."""
    if samples.ndim != 4 or samples.shape[1] != LATENT_CHANNELS:
        raise WorkerError(
            say(
                "The latent has the shape {shape}; Ovis-Image expects [batch, {channels}, "
                "height / 8, width / 8].",
                shape=list(samples.shape),
                channels=LATENT_CHANNELS,
            ),
            say("Encode the image with Ovis VAE Encode or with FLUX.1's VAE."),
        )


def latent_mask(latent: dict, samples: torch.Tensor, name: str = "latent") -> torch.Tensor | None:
    """The noise mask ``[1 or B, H/8, W/8]``, resized as ComfyUI's samplers do it."""
    if latent.get("noise_mask") is None:
        return None
    mask = inputs.mask(f"{name}.noise_mask", latent["noise_mask"])
    height, width = samples.shape[-2:]
    entries = mask.reshape((-1, 1, mask.shape[-2], mask.shape[-1])).shape[0]
    batch = 1 if entries == 1 else samples.shape[0]
    return comfy.utils.reshape_mask(mask.detach().float(), (batch, 1, height, width))[:, 0]


def batch_index(latent: dict, batch: int, name: str = "latent") -> list[int] | None:
    """Which of the seed's noise draws each entry uses, if the LATENT specifies it."""
    indices = latent.get("batch_index")
    return None if indices is None else inputs.indices(f"{name}.batch_index", indices, batch)


def denoise_tensors(
    positive: list,
    negative: list | None,
    guided: bool,
    latent: dict,
    samples: torch.Tensor,
    name: str = "latent",
) -> list[WireTensor]:
    """All tensors of a job; the negative conditioning only if the job is ``guided``."""
    batch = samples.shape[0]
    tensors = [to_wire("positive", single_conditioning(positive, "positive", batch))]
    if guided:
        if negative is None:
            raise WorkerError(
                say("With a cfg other than 1 Ovis Denoise needs a negative conditioning."),
                say("Connect an Ovis Prompt Encode with an empty prompt, or set cfg to 1."),
            )
        tensors.append(to_wire("negative", single_conditioning(negative, "negative", batch)))
    tensors.append(to_wire("latent", samples))
    mask = latent_mask(latent, samples, name)
    if mask is not None:
        tensors.append(to_wire("noise_mask", mask))
    return tensors
