"""The advanced denoise node: a part of a schedule, or a native SAMPLER or SIGMAS."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from .. import wire
from . import inputs
from .denoise import (
    MAX_CFG,
    MAX_STEPS,
    cfg_input,
    negative_input,
    run_denoise,
    seed_input,
    steps_input,
    unchanged,
)
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


class OvisDenoiseAdvanced(io.ComfyNode):
    """Denoises a LATENT for a part of the steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
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
        """Returns the LATENT with new samples; its mask and batch index are kept."""
        fields: dict[str, object] = {
            "sampler": inputs.choice("sampler", sampler, SAMPLERS),
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
            **speed_fields(cache, guidance_start, guidance_end),
            **fields,
        )
        if is_empty_schedule:
            return unchanged(latent)
        return await run_denoise(cls.hidden.unique_id, worker, request, positive, negative, latent)
