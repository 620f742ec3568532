"""The node that compares two images."""

from __future__ import annotations

import comfy.utils
import torch
from comfy_api.latest import io, ui

from ..pictures.compare import LAYOUTS, compare
from . import inputs
from .newer import schema
from .worker import CATEGORY


class OvisCompare(io.ComfyNode):
    """Combines two IMAGE batches and shows them with a slider."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        slider = io.NumberDisplay.slider
        return schema(
            node_id="OvisCompare",
            display_name="Ovis Before/After",
            category=CATEGORY,
            description="Compares two images with a slider and outputs one combined image.",
            search_aliases=["Image Compare", "slider", "对比"],
            is_output_node=True,
            inputs=[
                io.Image.Input("before"),
                io.Image.Input("after", tooltip="Resized to match the first image."),
                io.Combo.Input(
                    "layout",
                    options=list(LAYOUTS),
                    tooltip="How to arrange the two images. In a difference image, equal areas "
                    "are black.",
                ),
                io.Float.Input(
                    "position",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=slider,
                    tooltip="Position of the split: 0 is the left edge, 1 the right edge.",
                ),
                io.Float.Input(
                    "gain",
                    default=1.0,
                    min=1.0,
                    max=20.0,
                    step=0.5,
                    display_mode=slider,
                    tooltip="Brightness factor for the difference image.",
                ),
                io.String.Input(
                    "before_label",
                    default="before",
                    tooltip="Label on the first image; may be empty.",
                ),
                io.String.Input(
                    "after_label",
                    default="after",
                    tooltip="Label on the second image; may be empty.",
                ),
            ],
            outputs=[io.Image.Output()],
            # Stored in the preview's file, so that it can be opened as a workflow.
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        before: torch.Tensor,
        after: torch.Tensor,
        layout: str,
        position: float,
        gain: float,
        before_label: str,
        after_label: str,
    ) -> io.NodeOutput:
        """Returns ``[B, H, W, 3]``. The last image of the shorter batch is repeated."""
        before, after = inputs.image("before", before), inputs.image("after", after)
        layout = inputs.choice("layout", layout, LAYOUTS)
        position = inputs.number("position", position, 0.0, 1.0)
        gain = inputs.number("gain", gain, 1.0, 20.0)
        before_label = inputs.text("before_label", before_label)
        after_label = inputs.text("after_label", after_label)
        height, width = before.shape[1:3]
        if after.shape[1:3] != before.shape[1:3]:
            channels_first = after.movedim(-1, 1)
            after = comfy.utils.common_upscale(channels_first, width, height, "lanczos", "disabled")
            after = after.movedim(1, -1)
        pairs = [
            (before[min(index, len(before) - 1)], after[min(index, len(after) - 1)])
            for index in range(max(len(before), len(after)))
        ]
        names = (before_label.strip(), after_label.strip())
        arrays = [[image.float().cpu().numpy() for image in pair] for pair in pairs]
        pages = [compare(one, two, layout, names, position, gain) for one, two in arrays]
        shown = [cls._saved(image) for image in pairs[0]]
        image = torch.stack([torch.from_numpy(page) for page in pages])
        return io.NodeOutput(image, ui={"ovis_compare": shown})

    @classmethod
    def _saved(cls, image: torch.Tensor) -> dict:
        """Saves the image as a temporary file, for the slider in the browser."""
        (saved,) = ui.ImageSaveHelper.save_images(
            image[None], "ovis_compare", io.FolderType.temp, cls, compress_level=1
        )
        return dict(saved)
