"""The route by which a browser page reports its language."""

from __future__ import annotations

from aiohttp import web

from ..texts import WorkerError, page_language, say
from .guard import guarded
from .json_body import read_json_object

MAX_CHARACTERS = 100


def add_routes(routes: web.RouteTableDef) -> None:
    """Adds the route."""

    async def report(request: web.Request) -> web.Response:
        """Takes ``{client, language}``; ``client`` is the page's id on ComfyUI's websocket."""
        asked = await read_json_object(request)
        page, language = asked.get("client"), asked.get("language")
        texts = isinstance(page, str) and isinstance(language, str)
        if not texts or not 0 < len(page) <= MAX_CHARACTERS:
            raise WorkerError(say("A page must send its id and its language."))
        page_language.remember(page, language)
        return web.json_response({})

    routes.post("/ovis-worker/language")(guarded(report))
