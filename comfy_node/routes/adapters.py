"""Routes for the adapters of a worker: the list, and the picture of one."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from ..settings import lookup
from ..settings.config import ComfyFolders, WorkerConfig
from ..texts import WorkerError, printable, say
from ..worker import adapters
from .guard import with_readable_errors

ADAPTERS = "/ovis-worker/workers/{label}/adapters"
_JPEG = b"\xff\xd8"


def add_routes(routes: web.RouteTableDef, folders: Callable[[], ComfyFolders]) -> None:
    """Adds the routes; ``folders`` returns ComfyUI's folders."""

    def config_of(request: web.Request) -> WorkerConfig:
        return lookup.resolve(request.match_info["label"], folders())

    async def list_all(request: web.Request) -> web.Response:
        """Lists the adapters that fit the worker's model. A worker is not started for it."""
        found = await adapters.listed(config_of(request))
        return web.json_response({"adapters": [adapters.described(adapter) for adapter in found]})

    async def picture(request: web.Request) -> web.Response:
        """The picture of the adapter that the query names, as it was last listed."""
        name = request.query.get("name", "")
        found = adapters.known(config_of(request).label, name)
        if found is None or not found.preview:
            raise WorkerError(
                say("The adapter `{name}` has no picture.", name=printable(name, 100))
            )
        content = bytes(found.preview)
        kind = "image/jpeg" if content.startswith(_JPEG) else "image/png"
        # The bytes come from a file of somebody else.
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=3600"}
        return web.Response(body=content, content_type=kind, headers=headers)

    routes.get(ADAPTERS)(with_readable_errors(list_all))
    routes.get(f"{ADAPTERS}/picture")(with_readable_errors(picture))
