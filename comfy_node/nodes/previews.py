"""A denoise node's progress bar and previews."""

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


def preview_request(capabilities: wire.Capabilities) -> wire.PreviewRequest | None:
    """The previews to ask for: what ComfyUI's settings want and the worker offers.

    Where ComfyUI would use the tiny decoder TAESD, the worker uses its VAE on reduced latents.
    """
    kind = _KINDS.get(args.preview_method)
    if kind is wire.PreviewKind.VAE and "vae" not in capabilities.previews:
        kind = wire.PreviewKind.LINEAR
    if kind is None or kind.name.lower() not in capabilities.previews:
        return None
    side = min(latent_preview.MAX_PREVIEW_RESOLUTION, wire.MAX_PREVIEW_SIDE)
    return wire.PreviewRequest(kind, side) if side > 0 else None


class DenoiseBar:
    """Shows a job's progress and previews on its node."""

    def __init__(self, node_id: str, steps: int) -> None:
        self._bar = comfy.utils.ProgressBar(steps, node_id=node_id)
        self._preview: tuple[str, Image.Image, int] | None = None

    def show(self, event: wire.Progress | wire.Preview) -> None:
        """Takes an event. A step's preview arrives before its progress, and is shown with it."""
        if isinstance(event, wire.Progress):
            self._bar.update_absolute(event.step, event.total, self._preview)
            self._preview = None
            return
        if not 0 < event.width * event.height * 3 == len(event.data):
            return  # an invalid preview does not stop the job
        image = Image.frombytes("RGB", (event.width, event.height), bytes(event.data))
        # ComfyUI resizes it to the size of its previews.
        self._preview = ("JPEG", image, latent_preview.MAX_PREVIEW_RESOLUTION)
