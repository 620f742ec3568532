"""ComfyUI nodes that run Ovis-Image on an ovis-worker."""


async def comfy_entrypoint():
    """What ComfyUI asks for the nodes; importing them needs ComfyUI, the rest does not."""
    from .nodes import OvisExtension

    return OvisExtension()
