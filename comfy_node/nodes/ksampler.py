"""The node that denoises; its inputs are those of ComfyUI's KSampler."""

from __future__ import annotations

from comfy_api.latest import io

from . import inputs
from .denoise import (
    native_cfg_input,
    negative_input,
    run_denoise,
    seed_input,
    steps_input,
    strength_input,
    whole_request,
)
from .lora import adapters, lora_input
from .newer import ESSENTIALS, advanced, schema
from .samplers import sampler_input, scheduler_input, shift_input
from .speed import cache_input
from .worker import CATEGORY, Worker

AS_SET = "steps as set"
QUALITIES = {AS_SET: None, "preview: 20 steps": 20, "final: 50 steps": 50}
"""The options of the widget `quality`, and their numbers of steps. The model's authors use 50;
20 show the composition. Saved workflows contain these names, so they never change."""


class OvisKSampler(io.ComfyNode):
    """Denoises a LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs in KSampler's order; what KSampler does not have is last."""
        return schema(
            node_id="OvisKSampler",
            display_name="Ovis Denoise",
            category=CATEGORY,
            description="Denoises a latent with Ovis-Image on the worker.",
            search_aliases=["KSampler", "sampler", "denoise", "generate", "采样"],
            essentials_category=ESSENTIALS,
            inputs=[
                Worker.Input("worker"),
                seed_input("seed"),
                steps_input(),
                native_cfg_input(),
                sampler_input(),
                scheduler_input(),
                io.Conditioning.Input("positive"),
                io.Latent.Input("latent_image"),
                strength_input(),
                negative_input(),
                io.Combo.Input(
                    "quality",
                    options=list(QUALITIES),
                    default=AS_SET,
                    optional=True,
                    tooltip="A switch between a 20-step preview and the 50-step final image; both "
                    "override steps.",
                ),
                advanced(shift_input(optional=True)),
                advanced(cache_input()),
                lora_input(),
            ],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(
        cls,
        worker: str,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: list,
        latent_image: dict,
        denoise: float,
        negative: list | None = None,
        quality: str = AS_SET,
        shift: float = 0.0,
        cache: str = "off",
        lora: object = None,
    ) -> io.NodeOutput:
        """Returns the LATENT with new samples; its mask and batch index are kept."""
        request = whole_request(
            ("sampler_name", sampler_name), seed, steps, cfg, denoise, scheduler, shift, cache
        )
        request.adapters = adapters("lora", lora)
        quality = inputs.choice("quality", quality, list(QUALITIES))
        request.steps = QUALITIES[quality] or request.steps
        return await run_denoise(
            cls.hidden.unique_id, worker, request, positive, negative, latent_image, "latent_image"
        )
