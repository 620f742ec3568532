"""The advanced denoise node: a part of a schedule, or a native SAMPLER or SIGMAS."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from .. import wire
from . import inputs
from .denoise import (
    MAX_CFG,
    MAX_STEPS,
    native_cfg_input,
    negative_input,
    run_denoise,
    seed_input,
    steps_input,
    unchanged,
)
from .lora import adapters, lora_input
from .newer import advanced, schema
from .samplers import (
    SAMPLERS,
    sampler_from_native,
    sampler_input,
    schedule_by_name,
    schedule_from_sigmas,
    scheduler_input,
    shift_input,
)
from .speed import cache_input, guidance_inputs, speed_fields
from .worker import CATEGORY, Worker

SWITCH = ("enable", "disable")
LAST_STEP = 10_000
"""An ``end_at_step`` past the end of every schedule, as in ComfyUI."""


class OvisKSamplerAdvanced(io.ComfyNode):
    """Denoises a LATENT for a part of the steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs in KSampler (Advanced)'s order; the others are last."""
        return schema(
            node_id="OvisKSamplerAdvanced",
            display_name="Ovis Denoise (Advanced)",
            category=CATEGORY,
            description="Denoises a latent with Ovis-Image on the worker for part of the schedule, "
            "or with a native SAMPLER or SIGMAS.",
            search_aliases=["KSampler Advanced", "KSampler (Advanced)", "SamplerCustom", "采样"],
            inputs=[
                Worker.Input("worker"),
                advanced(add_noise_input()),
                seed_input("noise_seed"),
                steps_input(),
                native_cfg_input(),
                sampler_input(),
                scheduler_input(),
                io.Conditioning.Input("positive"),
                io.Latent.Input("latent_image"),
                *(advanced(widget) for widget in range_inputs()),
                negative_input(),
                *native_inputs(),
                advanced(shift_input(optional=True)),
                advanced(cache_input()),
                *(advanced(widget) for widget in guidance_inputs()),
                lora_input(),
            ],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(
        cls, sampler_name: str, latent_image: dict, **others: object
    ) -> io.NodeOutput:
        """Returns the LATENT with new samples; its mask and batch index are kept."""
        names = ("sampler_name", "latent_image")
        return await denoise_part(cls.hidden.unique_id, sampler_name, latent_image, names, **others)


async def denoise_part(
    node_id: str,
    sampler: str,
    latent: dict,
    names: tuple[str, str],
    *,
    worker: str,
    positive: list,
    add_noise: str,
    noise_seed: int,
    steps: int,
    cfg: float,
    scheduler: str,
    start_at_step: int,
    end_at_step: int,
    return_with_leftover_noise: str,
    shift: float = 0.0,
    negative: list | None = None,
    custom_sampler: object | None = None,
    sigmas: torch.Tensor | None = None,
    cache: str = "off",
    guidance_start: float = 1.0,
    guidance_end: float = 0.0,
    lora: object = None,
) -> io.NodeOutput:
    """Denoises a part of the steps; ``names`` are those of the sampler's and the latent's input."""
    sampler_name, latent_name = names
    fields: dict[str, object] = {
        "sampler": inputs.choice(sampler_name, sampler, SAMPLERS),
        "steps": inputs.integer("steps", steps, 1, MAX_STEPS),
    }
    fields |= schedule_by_name(scheduler, shift)
    if custom_sampler is not None:
        fields |= sampler_from_native(custom_sampler)
    is_empty_schedule = False
    if sigmas is not None:
        sigmas = inputs.sigmas("sigmas", sigmas)
        is_empty_schedule = len(sigmas) < 2
        fields |= {} if is_empty_schedule else schedule_from_sigmas(sigmas, shift)
    leftover = inputs.choice("return_with_leftover_noise", return_with_leftover_noise, SWITCH)
    request = wire.DenoiseRequest(
        seed=inputs.integer("noise_seed", noise_seed, 0, inputs.MAX_SEED),
        cfg=inputs.number("cfg", cfg, 0.0, MAX_CFG),
        start_step=inputs.integer("start_at_step", start_at_step, 0, LAST_STEP),
        end_step=inputs.integer("end_at_step", end_at_step, 0, LAST_STEP),
        add_noise=inputs.choice("add_noise", add_noise, SWITCH) == "enable",
        leftover_noise=leftover == "enable",
        adapters=adapters("lora", lora),
        **speed_fields(cache, guidance_start, guidance_end),
        **fields,
    )
    if is_empty_schedule:
        return unchanged(latent, latent_name)
    return await run_denoise(node_id, worker, request, positive, negative, latent, latent_name)


def add_noise_input() -> io.Combo.Input:
    """The widget that says whether the seed's noise is added."""
    return io.Combo.Input(
        "add_noise",
        options=["enable", "disable"],
        tooltip="Choose disable for a latent that still contains noise from earlier steps.",
    )


def range_inputs() -> list[io.WidgetInput]:
    """The widgets for the part of the schedule that runs."""
    return [
        io.Int.Input(
            "start_at_step",
            default=0,
            min=0,
            max=LAST_STEP,
            tooltip="Number of steps to skip at the start.",
        ),
        io.Int.Input(
            "end_at_step",
            default=LAST_STEP,
            min=0,
            max=LAST_STEP,
            tooltip="Stop before this step; 10000 runs to the end.",
        ),
        io.Combo.Input(
            "return_with_leftover_noise",
            options=["disable", "enable"],
            tooltip="enable keeps the remaining noise, so that another node can continue at "
            "end_at_step; disable removes it in the last step.",
        ),
    ]


def native_inputs() -> list[io.Input]:
    """The sockets for a native SAMPLER and for SIGMAS."""
    return [
        io.Sampler.Input(
            "custom_sampler",
            optional=True,
            tooltip="A native sampler with its options; overrides the sampler chosen above. A "
            "sampler that the worker lacks is refused.",
        ),
        io.Sigmas.Input(
            "sigmas",
            optional=True,
            tooltip="Sigmas of a flow model; override steps and scheduler.",
        ),
    ]
