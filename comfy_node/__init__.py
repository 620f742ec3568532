"""ComfyUI nodes that run Ovis-Image on an ovis-worker."""


async def comfy_entrypoint():
    """What ComfyUI asks for the nodes; importing them needs ComfyUI, the rest does not."""
    from server import PromptServer

    from .nodes import OvisExtension
    from .nodes.worker import places
    from .routes import prompts, workers

    routes = PromptServer.instance.routes
    prompts.add_routes(routes, places().user)
    workers.add_routes(routes, places)
    return OvisExtension()
