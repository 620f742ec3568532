"""Denoising in parts, with the meanings of ComfyUI's KSamplerAdvanced."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from .. import wire
from . import inputs
from .denoise import (
    MOST_CFG,
    MOST_STEPS,
    cfg_input,
    negative_input,
    run_denoise,
    seed_input,
    steps_input,
    unchanged,
)
from .samplers import (
    SAMPLERS,
    given_schedule,
    known_sampler,
    named_schedule,
    sampler_input,
    scheduler_input,
    shift_input,
)
from .speed import cache_input, guidance_inputs, speed_fields
from .worker import CATEGORY, Worker

SWITCH = ("enable", "disable")
LAST_STEP = 10_000
"""An ``end_at_step`` past every schedule, as in ComfyUI."""


class OvisDenoiseAdvanced(io.ComfyNode):
    """Part of a schedule: CONDITIONING and LATENT to LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="OvisDenoiseAdvanced",
            display_name="Ovis Denoise (Advanced)",
            category=CATEGORY,
            description="Denoises a latent with Ovis-Image on the worker for part of the schedule, "
            "or with a native SAMPLER or SIGMAS.",
            inputs=[
                Worker.Input("worker"),
                io.Conditioning.Input("positive"),
                io.Latent.Input("latent"),
                io.Combo.Input(
                    "add_noise",
                    options=["enable", "disable"],
                    tooltip="Choose disable for a latent that still contains noise from earlier "
                    "steps.",
                ),
                seed_input("noise_seed"),
                steps_input(),
                cfg_input(),
                sampler_input(),
                scheduler_input(),
                shift_input(),
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
                    tooltip="enable keeps the remaining noise, so that another node can "
                    "continue at end_at_step; disable removes it in the last step.",
                ),
                negative_input(),
                io.Sampler.Input(
                    "custom_sampler",
                    optional=True,
                    tooltip="A native sampler with its options; overrides the sampler chosen "
                    "above. A sampler that the worker lacks is refused.",
                ),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="Sigmas of a flow model; override steps and scheduler.",
                ),
                cache_input(),
                *guidance_inputs(),
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
        add_noise: str,
        noise_seed: int,
        steps: int,
        cfg: float,
        sampler: str,
        scheduler: str,
        shift: float,
        start_at_step: int,
        end_at_step: int,
        return_with_leftover_noise: str,
        negative: list | None = None,
        custom_sampler: object | None = None,
        sigmas: torch.Tensor | None = None,
        cache: str = "off",
        guidance_start: float = 1.0,
        guidance_end: float = 0.0,
    ) -> io.NodeOutput:
        """The latent with new samples; its mask and batch index stay."""
        fields: dict[str, object] = {
            "sampler": inputs.choice("sampler", sampler, SAMPLERS),
            "steps": inputs.whole("steps", steps, 1, MOST_STEPS),
        }
        fields |= named_schedule(scheduler, shift)
        if custom_sampler is not None:
            fields |= known_sampler(custom_sampler)
        short = False
        if sigmas is not None:
            sigmas = inputs.sigmas("sigmas", sigmas)
            short = len(sigmas) < 2
            fields |= {} if short else given_schedule(sigmas, shift)
        leftover = inputs.choice("return_with_leftover_noise", return_with_leftover_noise, SWITCH)
        request = wire.DenoiseRequest(
            seed=inputs.whole("noise_seed", noise_seed, 0, inputs.MOST_SEED),
            cfg=inputs.number("cfg", cfg, 0.0, MOST_CFG),
            start_step=inputs.whole("start_at_step", start_at_step, 0, LAST_STEP),
            end_step=inputs.whole("end_at_step", end_at_step, 0, LAST_STEP),
            add_noise=inputs.choice("add_noise", add_noise, SWITCH) == "enable",
            leftover_noise=leftover == "enable",
            **speed_fields(cache, guidance_start, guidance_end),
            **fields,
        )
        if short:
            return unchanged(latent)
        return await run_denoise(cls.hidden.unique_id, worker, request, positive, negative, latent)
