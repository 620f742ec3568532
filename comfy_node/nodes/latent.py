"""The node that creates empty latents from an aspect ratio and an area."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io

from ..pictures.sizes import FREE, LATENT_CHANNELS, LATENT_PIXELS, PRESETS, ratio_of, size_of
from . import inputs
from .worker import CATEGORY

PIXELS_KEY = "downscale_ratio_spacial"
"""The key under which newer versions of ComfyUI store how many pixels, in each direction, one
position of an empty LATENT stands for. Models with another ratio can then convert it. Samplers
remove the key.
"""


class OvisEmptyLatent(io.ComfyNode):
    """Creates an empty LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        return io.Schema(
            node_id="OvisEmptyLatent",
            display_name="Ovis Empty Latent",
            category=CATEGORY,
            description="Creates an empty latent from an aspect ratio, set by slider or preset, "
            "and an area. Width and height are rounded to multiples of 16.",
            inputs=[
                io.Float.Input(
                    "aspect_ratio",
                    default=1.0,
                    min=0.25,
                    max=4.0,
                    step=0.01,
                    round=0.001,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="Width divided by height: 0.25 is tall, 4 is wide.",
                ),
                io.Float.Input(
                    "megapixels",
                    default=1.0,
                    min=0.05,  # small models are trained at 256 × 256, which is 0.06
                    max=4.0,
                    step=0.05,
                    round=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="Image area; 1 is 1024 × 1024 pixels.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Number of images to generate at once.",
                ),
                # Optional and last, so that graphs saved before it existed still run.
                io.Combo.Input(
                    "preset",
                    options=[FREE, *PRESETS],
                    default=FREE,
                    optional=True,
                    tooltip="Aspect ratio of a common format; overrides the slider. `free` uses "
                    "the slider.",
                ),
            ],
            outputs=[
                io.Latent.Output(),
                io.Int.Output("width", display_name="width"),
                io.Int.Output("height", display_name="height"),
            ],
        )

    @classmethod
    def execute(
        cls, aspect_ratio: float, megapixels: float, batch_size: int, preset: str = FREE
    ) -> io.NodeOutput:
        """Returns zeros ``[B, 16, H/8, W/8]``, and width and height in pixels."""
        aspect_ratio = inputs.number("aspect_ratio", aspect_ratio, 0.25, 4.0)
        megapixels = inputs.number("megapixels", megapixels, 0.05, 4.0)
        batch_size = inputs.integer("batch_size", batch_size, 1, 64)
        preset = inputs.choice("preset", preset, [FREE, *PRESETS])
        width, height = size_of(ratio_of(preset, aspect_ratio), megapixels)
        samples = torch.zeros(
            [batch_size, LATENT_CHANNELS, height // LATENT_PIXELS, width // LATENT_PIXELS],
            device=comfy.model_management.intermediate_device(),
        )
        return io.NodeOutput({"samples": samples, PIXELS_KEY: LATENT_PIXELS}, width, height)
