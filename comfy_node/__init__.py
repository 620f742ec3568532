"""ComfyUI nodes that run Ovis-Image on an ovis-worker."""


async def comfy_entrypoint():
    """Sets the pack up and returns its nodes; ComfyUI calls this once at its start.

    The imports are local because only these modules need ComfyUI; all other rooms can be imported
    and tested without it.
    """
    from comfy.cli_args import args
    from server import PromptServer

    from .nodes import OvisExtension, choices, free, replacements
    from .nodes.comfyui import folders
    from .routes import adapters, language, prompts, remote, workers
    from .settings import private_folder
    from .texts import page_language

    here = folders()
    private_folder.prepare(here.private, here.user)
    server = PromptServer.instance
    page_language.set_executing_page(lambda: server.client_id)
    server.add_on_prompt_handler(page_language.on_prompt)
    choices.refresh()
    await replacements.register()
    server.app.middlewares.append(choices.refreshing)
    routes = server.routes
    language.add_routes(routes)
    prompts.add_routes(routes, here.user)
    adapters.add_routes(routes, folders)
    workers.add_routes(
        routes,
        folders,
        remote_settings=remote.may_edit(args),
        changed=choices.refresh,
        told=choices.note_models,
    )
    free.install(folders)
    return OvisExtension()
