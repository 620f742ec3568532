"""The ovis-worker node pack: clone this repository into ``custom_nodes`` to install it."""

WEB_DIRECTORY = "./comfy_node/web"

# ComfyUI imports this file as a package. pytest imports it too while it collects tests, but as a
# bare module and without ComfyUI; then nothing may be imported.
if __package__:
    try:
        import comfy_api.latest
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "comfy_api":
            raise
    else:
        from .comfy_node import comfy_entrypoint

        __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
