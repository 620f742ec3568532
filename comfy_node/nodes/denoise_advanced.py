"""The advanced denoise node's first form."""

from __future__ import annotations

from comfy_api.latest import io

from .denoise import cfg_input, negative_input, seed_input, steps_input
from .ksampler_advanced import add_noise_input, denoise_part, native_inputs, range_inputs
from .samplers import sampler_input, scheduler_input, shift_input
from .speed import cache_input, guidance_inputs
from .worker import CATEGORY, Worker


class OvisDenoiseAdvanced(io.ComfyNode):
    """Denoises a LATENT for a part of the steps; kept for graphs that were saved before
    :class:`OvisKSamplerAdvanced` existed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        return io.Schema(
            node_id="OvisDenoiseAdvanced",
            display_name="Ovis Denoise (Advanced, old)",
            category=CATEGORY,
            description="Denoises a latent with Ovis-Image on the worker for part of the schedule, "
            "or with a native SAMPLER or SIGMAS. For new graphs, use Ovis Denoise (Advanced).",
            is_deprecated=True,
            inputs=[
                Worker.Input("worker"),
                io.Conditioning.Input("positive"),
                io.Latent.Input("latent"),
                add_noise_input(),
                seed_input("noise_seed"),
                steps_input(),
                cfg_input(),
                sampler_input("sampler"),
                scheduler_input(),
                shift_input(),
                *range_inputs(),
                negative_input(),
                *native_inputs(),
                cache_input(),
                *guidance_inputs(),
            ],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, sampler: str, latent: dict, **others: object) -> io.NodeOutput:
        """Returns the LATENT with new samples; its mask and batch index are kept."""
        names = ("sampler", "latent")
        return await denoise_part(cls.hidden.unique_id, sampler, latent, names, **others)
