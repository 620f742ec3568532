"""The node that creates empty latents from an aspect ratio and an area."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io

from ..pictures.sizes import (
    FREE,
    LATENT_CHANNELS,
    LATENT_PIXELS,
    MAX_SIDE,
    MEGAPIXEL,
    MOST_EXTREME_RATIO,
    PRESETS,
    SIZE_MULTIPLE,
    exact_size,
    ratio_of,
    size_of,
)
from ..texts import WorkerError, say
from . import inputs
from .newer import ESSENTIALS, schema
from .worker import CATEGORY

PIXELS_KEY = "downscale_ratio_spacial"
"""The key under which newer versions of ComfyUI store how many pixels, in each direction, one
position of an empty LATENT stands for. Models with another ratio can then convert it. Samplers
remove the key.
"""
MAX_MEGAPIXELS = 4


class OvisEmptyLatent(io.ComfyNode):
    """Creates an empty LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        return schema(
            node_id="OvisEmptyLatent",
            display_name="Ovis Empty Latent",
            category=CATEGORY,
            description="Creates an empty latent from an aspect ratio, set by slider or preset, "
            "and an area, or with an exact width and height. Sizes are multiples of 16.",
            search_aliases=["Empty Latent Image", "size", "width", "height", "尺寸"],
            essentials_category=ESSENTIALS,
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
                _side_input("width", "Exact width in pixels, a multiple of 16"),
                _side_input("height", "Exact height in pixels, a multiple of 16"),
            ],
            outputs=[
                io.Latent.Output(),
                io.Int.Output("width_out", display_name="width"),
                io.Int.Output("height_out", display_name="height"),
            ],
        )

    @classmethod
    def execute(
        cls,
        aspect_ratio: float,
        megapixels: float,
        batch_size: int,
        preset: str = FREE,
        width: int = 0,
        height: int = 0,
    ) -> io.NodeOutput:
        """Returns zeros ``[B, 16, H/8, W/8]``, and width and height in pixels."""
        aspect_ratio = inputs.number("aspect_ratio", aspect_ratio, 0.25, 4.0)
        megapixels = inputs.number("megapixels", megapixels, 0.05, 4.0)
        batch_size = inputs.integer("batch_size", batch_size, 1, 64)
        ratio = ratio_of(inputs.choice("preset", preset, [FREE, *PRESETS]), aspect_ratio)
        width, height = _side("width", width), _side("height", height)
        if width or height:
            width, height = _checked(*exact_size(width, height, ratio))
        else:
            width, height = size_of(ratio, megapixels)
        samples = torch.zeros(
            [batch_size, LATENT_CHANNELS, height // LATENT_PIXELS, width // LATENT_PIXELS],
            device=comfy.model_management.intermediate_device(),
        )
        return io.NodeOutput({"samples": samples, PIXELS_KEY: LATENT_PIXELS}, width, height)


def _side_input(name: str, tooltip: str) -> io.Int.Input:
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=MAX_SIDE,
        step=SIZE_MULTIPLE,
        optional=True,
        tooltip=f"{tooltip}; overrides aspect ratio and megapixels. 0 uses them.",
    )


def _side(name: str, value: object) -> int:
    side = inputs.integer(name, value, 0, MAX_SIDE)
    if side % SIZE_MULTIPLE:
        raise WorkerError(
            say(
                "The input `{name}` is {side}; Ovis-Image needs a multiple of {multiple}.",
                name=name,
                side=side,
                multiple=SIZE_MULTIPLE,
            ),
            say(
                "Use {low} or {high}.",
                low=side // SIZE_MULTIPLE * SIZE_MULTIPLE,
                high=(side // SIZE_MULTIPLE + 1) * SIZE_MULTIPLE,
            ),
        )
    return side


def _checked(width: int, height: int) -> tuple[int, int]:
    within = max(width, height) <= min(MAX_SIDE, MOST_EXTREME_RATIO * min(width, height))
    if within and width * height <= MAX_MEGAPIXELS * MEGAPIXEL:
        return width, height
    raise WorkerError(
        say(
            "{width} × {height} pixels is not a size for Ovis-Image.",
            width=width,
            height=height,
        ),
        say(
            "Use at most {most} megapixels, and a width from a quarter of the height to four "
            "times the height.",
            most=MAX_MEGAPIXELS,
        ),
    )
