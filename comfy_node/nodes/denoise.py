"""The denoise node's first form, and what all nodes that denoise share."""

from __future__ import annotations

import math

from comfy_api.latest import io

from .. import wire
from . import inputs
from .denoise_inputs import (
    batch_index,
    check_width,
    denoise_tensors,
    latent_samples,
    single_conditioning,
)
from .jobs import connect, from_wire, run_job
from .latent import PIXELS_KEY
from .previews import DenoiseBar, preview_request
from .samplers import SAMPLERS, sampler_input, schedule_by_name, scheduler_input, shift_input
from .speed import cache_input, speed_fields
from .worker import CATEGORY, Worker

MAX_STEPS = 1000
MAX_CFG = 100.0
"""The worker's limit, and KSampler's."""


class OvisDenoise(io.ComfyNode):
    """Denoises a LATENT; kept for graphs that were saved before :class:`OvisKSampler` existed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        return io.Schema(
            node_id="OvisDenoise",
            display_name="Ovis Denoise (old)",
            category=CATEGORY,
            description="Denoises a latent with Ovis-Image on the worker. For new graphs, use Ovis "
            "Denoise, whose inputs are named and ordered as in KSampler.",
            is_deprecated=True,
            inputs=[
                Worker.Input("worker"),
                io.Conditioning.Input("positive"),
                io.Latent.Input("latent"),
                seed_input("seed"),
                steps_input(),
                cfg_input(),
                strength_input(),
                shift_input(),
                negative_input(),
                # Optional and last, so that graphs saved before they existed still run.
                sampler_input("sampler", optional=True),
                scheduler_input(optional=True),
                cache_input(),
            ],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(
        cls,
        worker: str,
        positive: list,
        latent: dict,
        seed: int,
        steps: int,
        cfg: float,
        denoise: float,
        shift: float,
        negative: list | None = None,
        sampler: str = "euler",
        scheduler: str = "flux",
        cache: str = "off",
    ) -> io.NodeOutput:
        """Returns the LATENT with new samples; its mask and batch index are kept."""
        request = whole_request(
            ("sampler", sampler), seed, steps, cfg, denoise, scheduler, shift, cache
        )
        return await run_denoise(cls.hidden.unique_id, worker, request, positive, negative, latent)


def whole_request(
    sampler: tuple[str, str],
    seed: int,
    steps: int,
    cfg: float,
    denoise: float,
    scheduler: str,
    shift: float,
    cache: str,
) -> wire.DenoiseRequest:
    """The request of a node that runs a whole schedule; ``sampler`` is an input's name and value.

    Raises :class:`WorkerError` for values outside the widgets' options and limits.
    """
    return wire.DenoiseRequest(
        seed=inputs.integer("seed", seed, 0, inputs.MAX_SEED),
        steps=inputs.integer("steps", steps, 1, MAX_STEPS),
        cfg=inputs.number("cfg", cfg, 0.0, MAX_CFG),
        sampler=inputs.choice(*sampler, SAMPLERS),
        denoise=inputs.number("denoise", denoise, 0.0, 1.0),
        **speed_fields(cache),
        **schedule_by_name(scheduler, shift),
    )


def seed_input(name: str) -> io.Int.Input:
    """The widget for the seed."""
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=inputs.MAX_SEED,
        control_after_generate=True,
        tooltip="The same seed gives the same noise as in ComfyUI's KSampler.",
    )


def steps_input() -> io.Int.Input:
    """The widget for the number of steps."""
    return io.Int.Input(
        "steps",
        default=50,
        min=1,
        max=200,
        display_mode=io.NumberDisplay.slider,
        tooltip="More steps: slower, more detail. The model's authors use 50.",
    )


def cfg_input() -> io.Float.Input:
    """The widget for the guidance scale of the first nodes."""
    return _cfg_input(min=1.0, max=20.0, display_mode=io.NumberDisplay.slider)


def native_cfg_input() -> io.Float.Input:
    """The widget for the guidance scale, with KSampler's range."""
    return _cfg_input(min=0.0, max=MAX_CFG)


def _cfg_input(**settings: object) -> io.Float.Input:
    return io.Float.Input(
        "cfg",
        default=5.0,
        step=0.1,
        round=0.01,
        tooltip="How closely to follow the prompt. 1 needs no negative conditioning and takes "
        "half the time.",
        **settings,
    )


def strength_input() -> io.Float.Input:
    """The widget for the denoise strength."""
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        round=0.001,
        display_mode=io.NumberDisplay.slider,
        tooltip="Denoise strength; lower keeps more of the input.",
    )


def negative_input() -> io.Conditioning.Input:
    """The socket for the negative prompt."""
    return io.Conditioning.Input("negative", optional=True, tooltip="Optional when cfg is 1.")


def unchanged(latent: dict, name: str = "latent") -> io.NodeOutput:
    """The input LATENT called ``name``, with samples in the model's shape."""
    return _with_samples(latent, latent_samples(latent, name))


async def run_denoise(
    node_id: str,
    worker: object,
    request: wire.DenoiseRequest,
    positive: list,
    negative: list | None,
    latent: dict,
    name: str = "latent",
) -> io.NodeOutput:
    """Completes the request with batch index and preview, and runs it.

    The other fields of ``request`` must be set; ``name`` is the latent's input, for errors.
    """
    inputs.worker_label(worker)
    if request.denoise == 0:
        single_conditioning(positive, "positive", 1)
        return unchanged(latent, name)
    samples = latent_samples(latent, name)
    if math.isclose(request.cfg, 1.0):
        request.cfg = 1.0
    tensors = denoise_tensors(positive, negative, request.cfg != 1.0, latent, samples, name)
    request.batch_index = batch_index(latent, len(samples), name)
    hello = await connect(worker, node_id)
    check_width(tensors, hello.capabilities)
    request.preview = preview_request(hello.capabilities)
    bar = DenoiseBar(node_id, request.steps)
    result = await run_job(worker, node_id, request, tensors, bar.show)
    return _with_samples(latent, from_wire(result, "latent"))


def _with_samples(latent: dict, samples: object) -> io.NodeOutput:
    rest = {key: value for key, value in latent.items() if key != PIXELS_KEY}
    return io.NodeOutput({**rest, "samples": samples})
