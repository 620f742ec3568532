"""The nodes. Importing this package needs ComfyUI."""

from comfy_api.latest import ComfyExtension, io

from .compare import OvisCompare
from .contact_sheet import OvisContactSheet
from .denoise import OvisDenoise
from .denoise_advanced import OvisDenoiseAdvanced
from .image import OvisDecode, OvisVAEDecode, OvisVAEEncode
from .ksampler import OvisKSampler
from .ksampler_advanced import OvisKSamplerAdvanced
from .latent import OvisEmptyLatent
from .lora import OvisLora
from .template import OvisPromptTemplate
from .text import OvisEncode
from .worker import OvisWorker


class OvisExtension(ComfyExtension):
    """Registers the pack's nodes with ComfyUI."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All node classes."""
        return [
            OvisWorker,
            OvisPromptTemplate,
            OvisEncode,
            OvisLora,
            OvisEmptyLatent,
            OvisKSampler,
            OvisKSamplerAdvanced,
            OvisVAEDecode,
            OvisVAEEncode,
            OvisContactSheet,
            OvisCompare,
            # Graphs that were saved before the nodes above had native names.
            OvisDenoise,
            OvisDenoiseAdvanced,
            OvisDecode,
        ]
