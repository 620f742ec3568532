"""In which language a browser page reads."""

from __future__ import annotations

from aiohttp import web

from ..texts import WorkerError, reader, say
from .guard import guarded
from .json_body import asked_for

MOST_LETTERS = 100


def add_routes(routes: web.RouteTableDef) -> None:
    """Adds the one that pages tell their language to."""

    async def tell(request: web.Request) -> web.Response:
        """``{client, language}``, where ``client`` is the page's number on ComfyUI's websocket."""
        asked = await asked_for(request)
        page, language = asked.get("client"), asked.get("language")
        texts = isinstance(page, str) and isinstance(language, str)
        if not texts or not 0 < len(page) <= MOST_LETTERS:
            raise WorkerError(say("A page has a number and a language."))
        reader.tell(page, language)
        return web.json_response({})

    routes.post("/ovis-worker/language")(guarded(tell))
