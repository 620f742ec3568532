"""A denoising node's progress bar, with previews as ComfyUI's settings want them."""

from __future__ import annotations

import comfy.utils
import latent_preview
from comfy.cli_args import LatentPreviewMethod, args
from PIL import Image

from .. import wire

_KINDS = {
    LatentPreviewMethod.Auto: wire.PreviewKind.LINEAR,
    LatentPreviewMethod.Latent2RGB: wire.PreviewKind.LINEAR,
    LatentPreviewMethod.TAESD: wire.PreviewKind.VAE,
}


def wanted_preview(capabilities: wire.Capabilities) -> wire.PreviewRequest | None:
    """What ComfyUI's settings ask for now, of what the worker has.

    Where ComfyUI would use the tiny decoder TAESD, the worker uses its VAE on small
    latents.
    """
    kind = _KINDS.get(args.preview_method)
    if kind is wire.PreviewKind.VAE and "vae" not in capabilities.previews:
        kind = wire.PreviewKind.LINEAR
    if kind is None or kind.name.lower() not in capabilities.previews:
        return None
    side = min(latent_preview.MAX_PREVIEW_RESOLUTION, wire.MAX_PREVIEW_SIDE)
    return wire.PreviewRequest(kind, side) if side > 0 else None


class DenoiseBar:
    """Shows a job's events on its node."""

    def __init__(self, node_id: str, steps: int) -> None:
        self._bar = comfy.utils.ProgressBar(steps, node_id=node_id)
        self._preview: tuple[str, Image.Image, int] | None = None

    def show(self, event: wire.Progress | wire.Preview) -> None:
        """Moves the bar; a step's preview comes before its progress, and shows with it."""
        if isinstance(event, wire.Progress):
            self._bar.update_absolute(event.step, event.total, self._preview)
            self._preview = None
            return
        if not 0 < event.width * event.height * 3 == len(event.data):
            return  # not the pixels that it says: the picture is made all the same
        image = Image.frombytes("RGB", (event.width, event.height), bytes(event.data))
        # ComfyUI brings it to the size of its previews.
        self._preview = ("JPEG", image, latent_preview.MAX_PREVIEW_RESOLUTION)
