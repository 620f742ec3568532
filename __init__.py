"""The ovis-worker node pack: a clone of this repository in ``custom_nodes`` is it."""

WEB_DIRECTORY = "./comfy_node/web"

# ComfyUI imports this file as a package by path; pytest does too while it
# collects, but as a bare module and without ComfyUI, and must come to no harm.
if __package__:
    try:
        import comfy_api.latest
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "comfy_api":
            raise
    else:
        from .comfy_node import comfy_entrypoint

        __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
