"""Between LATENT and IMAGE."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from .. import wire
from ..pictures.sizes import SIZE_MULTIPLE
from . import inputs
from .denoise_inputs import check_latent_shape
from .jobs import from_wire, run_job, to_wire
from .worker import CATEGORY, Worker


def encodable(image: object) -> torch.Tensor:
    """Pixels as the native VAE Encode takes them: no alpha, the middle that fits.

    The native node crops to multiples of 8; the model needs 16. Raises
    :class:`WorkerError` for what is no IMAGE of at least 16 pixels each way.
    """
    pixels = inputs.image("image", image, SIZE_MULTIPLE)
    for dim in (1, 2):
        extra = pixels.shape[dim] % SIZE_MULTIPLE
        pixels = pixels.narrow(dim, extra // 2, pixels.shape[dim] - extra)
    return pixels


class OvisDecode(io.ComfyNode):
    """LATENT to IMAGE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="OvisDecode",
            display_name="Ovis Decode",
            category=CATEGORY,
            description="Decodes latents to pixels on the worker.",
            inputs=[Worker.Input("worker"), io.Latent.Input("latent")],
            outputs=[io.Image.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, worker: str, latent: dict) -> io.NodeOutput:
        """``[B, H, W, 3]``, 0 to 1."""
        samples = inputs.latent("latent", latent)
        check_latent_shape(samples)
        tensors = [to_wire("latent", samples)]
        result = await run_job(worker, cls.hidden.unique_id, wire.DecodeRequest(), tensors)
        return io.NodeOutput(from_wire(result, "image"))


class OvisVAEEncode(io.ComfyNode):
    """IMAGE to LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="OvisVAEEncode",
            display_name="Ovis VAE Encode",
            category=CATEGORY,
            description="Encodes pixels to latents on the worker. Sides are cropped, evenly, to "
            "multiples of 16; an alpha channel is dropped.",
            inputs=[Worker.Input("worker"), io.Image.Input("image")],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, worker: str, image: torch.Tensor) -> io.NodeOutput:
        """``[B, 16, H/8, W/8]``, raw VAE latents."""
        tensors = [to_wire("image", encodable(image))]
        result = await run_job(worker, cls.hidden.unique_id, wire.VaeEncodeRequest(), tensors)
        return io.NodeOutput({"samples": from_wire(result, "latent")})
