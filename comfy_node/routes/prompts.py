"""Advice and composed prompts while they are typed."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from ..prompts import templates
from ..prompts.advice import advise
from ..texts import WorkerError, say, translated
from .guard import guarded, language_of
from .json_body import asked_for, is_number

MOST_LETTERS = 50_000


def add_routes(routes: web.RouteTableDef, user: Path) -> None:
    """Adds what needs to know ComfyUI's user folder."""

    async def advice(request: web.Request) -> web.Response:
        """``{prompt, steps?, cfg?, language?}`` to sentences."""
        asked = await asked_for(request)
        prompt, steps, cfg = asked.get("prompt", ""), asked.get("steps"), asked.get("cfg")
        language = asked.get("language", "en")
        numbers = all(value is None or is_number(value) for value in (steps, cfg))
        if not isinstance(prompt, str) or len(prompt) > MOST_LETTERS or not numbers:
            raise WorkerError(say("Advice is given for a prompt, and numbers of steps and cfg."))
        found = [
            {"rule": one.rule, "sentence": one.sentence(language), "fixed": one.fixed}
            for one in advise(prompt, steps, cfg)
        ]
        return web.json_response({"advice": found})

    async def compose(request: web.Request) -> web.Response:
        """``{template, boxes}`` to the full prompt, and sentences about bad files."""
        asked = await asked_for(request)
        boxes = asked.get("boxes", {})
        texts = isinstance(boxes, dict) and all(isinstance(text, str) for text in boxes.values())
        if not texts or sum(map(len, boxes.values())) > MOST_LETTERS:
            raise WorkerError(say("A template is filled with texts."))
        found = templates.find(templates.folders(user))
        name = asked.get("template")
        if not isinstance(name, str):
            raise WorkerError(say("A template is filled with texts."))
        chosen = found.named(name)
        problems = [translated(one, language_of(request)) for one in found.problems]
        return web.json_response(
            {"prompt": chosen.compose(boxes), "about": chosen.about, "problems": problems}
        )

    routes.post("/ovis-worker/advice")(guarded(advice))
    routes.post("/ovis-worker/compose")(guarded(compose))
