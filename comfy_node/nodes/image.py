"""The nodes that decode a LATENT to an IMAGE and encode an IMAGE to a LATENT."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from .. import wire
from ..pictures.sizes import SIZE_MULTIPLE
from . import inputs
from .denoise_inputs import check_latent_shape
from .jobs import from_wire, run_job, to_wire
from .newer import schema
from .worker import CATEGORY, Worker


def crop_to_multiple(image: object) -> torch.Tensor:
    """Crops an IMAGE around its centre to multiples of 16, and drops an alpha channel.

    The native VAE Encode does the same with multiples of 8. Raises :class:`WorkerError` if the
    value is not an IMAGE, or if a side has less than 16 pixels.
    """
    pixels = inputs.image("image", image, SIZE_MULTIPLE)
    for dim in (1, 2):
        extra = pixels.shape[dim] % SIZE_MULTIPLE
        pixels = pixels.narrow(dim, extra // 2, pixels.shape[dim] - extra)
    return pixels


class OvisVAEDecode(io.ComfyNode):
    """Decodes a LATENT to an IMAGE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        return schema(
            node_id="OvisVAEDecode",
            display_name="Ovis VAE Decode",
            category=CATEGORY,
            description="Decodes latents to images on the worker.",
            search_aliases=["VAE Decode", "Ovis Decode", "latent to image", "解码"],
            inputs=[io.Latent.Input("samples"), Worker.Input("worker")],
            outputs=[io.Image.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, samples: dict, worker: str) -> io.NodeOutput:
        """Returns ``[B, H, W, 3]`` with values from 0 to 1."""
        return await _decode(cls.hidden.unique_id, worker, inputs.latent("samples", samples))


class OvisDecode(io.ComfyNode):
    """Decodes a LATENT; kept for graphs that were saved before :class:`OvisVAEDecode` existed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        return io.Schema(
            node_id="OvisDecode",
            display_name="Ovis Decode (old)",
            category=CATEGORY,
            description="Decodes latents to images on the worker. For new graphs, use Ovis VAE "
            "Decode.",
            is_deprecated=True,
            inputs=[Worker.Input("worker"), io.Latent.Input("latent")],
            outputs=[io.Image.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, worker: str, latent: dict) -> io.NodeOutput:
        """Returns ``[B, H, W, 3]`` with values from 0 to 1."""
        return await _decode(cls.hidden.unique_id, worker, inputs.latent("latent", latent))


async def _decode(node_id: str, worker: str, samples: torch.Tensor) -> io.NodeOutput:
    check_latent_shape(samples)
    tensors = [to_wire("latent", samples)]
    result = await run_job(worker, node_id, wire.DecodeRequest(), tensors)
    return io.NodeOutput(from_wire(result, "image"))


class OvisVAEEncode(io.ComfyNode):
    """Encodes an IMAGE to a LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        return schema(
            node_id="OvisVAEEncode",
            display_name="Ovis VAE Encode",
            category=CATEGORY,
            description="Encodes images to latents on the worker. Width and height are cropped "
            "around the centre to multiples of 16; an alpha channel is dropped.",
            search_aliases=["VAE Encode", "image to latent", "编码"],
            inputs=[Worker.Input("worker"), io.Image.Input("image")],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, worker: str, image: torch.Tensor) -> io.NodeOutput:
        """Returns raw VAE latents ``[B, 16, H/8, W/8]``."""
        tensors = [to_wire("image", crop_to_multiple(image))]
        result = await run_job(worker, cls.hidden.unique_id, wire.VaeEncodeRequest(), tensors)
        return io.NodeOutput({"samples": from_wire(result, "latent")})
