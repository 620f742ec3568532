"""Routes for advice on a prompt and for composing one from a template, used while typing."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from ..prompts import templates
from ..prompts.advice import advise
from ..texts import WorkerError, say, translated
from .guard import guarded, language_of
from .json_body import is_number, read_json_object

MAX_CHARACTERS = 50_000


def add_routes(routes: web.RouteTableDef, user: Path) -> None:
    """Adds the routes; ``user`` is ComfyUI's user folder."""

    async def advice(request: web.Request) -> web.Response:
        """Takes ``{prompt, steps?, cfg?, language?}`` and returns the advice on the prompt."""
        asked = await read_json_object(request)
        prompt, steps, cfg = asked.get("prompt", ""), asked.get("steps"), asked.get("cfg")
        language = asked.get("language", "en")
        numbers = all(value is None or is_number(value) for value in (steps, cfg))
        if not isinstance(prompt, str) or len(prompt) > MAX_CHARACTERS or not numbers:
            raise WorkerError(say("Advice needs a prompt, and steps and cfg as numbers."))
        found = [
            {"rule": one.rule, "sentence": one.sentence(language), "fixed": one.fixed}
            for one in advise(prompt, steps, cfg)
        ]
        return web.json_response({"advice": found})

    async def compose(request: web.Request) -> web.Response:
        """Takes ``{template, boxes}``; returns the full prompt, and sentences on invalid files."""
        asked = await read_json_object(request)
        boxes = asked.get("boxes", {})
        texts = isinstance(boxes, dict) and all(isinstance(text, str) for text in boxes.values())
        if not texts or sum(map(len, boxes.values())) > MAX_CHARACTERS:
            raise WorkerError(say("The boxes of a template must contain texts."))
        found = templates.find(templates.search_path(user))
        name = asked.get("template")
        if not isinstance(name, str):
            raise WorkerError(say("The boxes of a template must contain texts."))
        chosen = found.named(name)
        problems = [translated(one, language_of(request)) for one in found.problems]
        return web.json_response(
            {"prompt": chosen.compose(boxes), "about": chosen.about, "problems": problems}
        )

    routes.post("/ovis-worker/advice")(guarded(advice))
    routes.post("/ovis-worker/compose")(guarded(compose))
