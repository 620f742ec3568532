"""ComfyUI nodes that run Ovis-Image on an ovis-worker."""


async def comfy_entrypoint():
    """What ComfyUI asks for the nodes; importing them needs ComfyUI, the rest does not."""
    from server import PromptServer

    from .nodes import OvisExtension
    from .nodes.places import places
    from .routes import language, prompts, workers
    from .settings import private_folder
    from .texts import reader

    here = places()
    private_folder.prepare(here.private, here.user)
    server = PromptServer.instance
    reader.runs_for(lambda: server.client_id)
    server.add_on_prompt_handler(reader.check_for)
    routes = server.routes
    language.add_routes(routes)
    prompts.add_routes(routes, here.user)
    workers.add_routes(routes, places)
    return OvisExtension()
