"""The options of widgets that depend on files and workers: labels, models and templates' names.

ComfyUI asks a node for its schema again and again, also for every node of a prompt. So a schema
takes these options from memory; they are read when ComfyUI starts, before it answers
``/object_info``, which the frontend requests when it is loaded and when R is pressed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from ..prompts import templates
from ..settings import lookup
from ..settings.config import DEFAULT_LABEL
from ..worker import adapters
from .comfyui import folders
from .inputs import DEFAULT_MODEL

NO_ADAPTER = ""
"""The option of a chooser of adapters that applies none."""

_labels = [DEFAULT_LABEL]
_models: list[str] = []
_templates: list[str] = []
_MOST_MODELS = 256


def worker_labels() -> list[str]:
    """The labels of all workers, as they were last read."""
    return list(_labels)


def model_names() -> list[str]:
    """The default model, and the names that workers have told."""
    return [DEFAULT_MODEL, *_models]


def note_models(names: Iterable[str]) -> None:
    """Remembers the names of a worker's models. A worker that is away is not asked for them."""
    known = {DEFAULT_MODEL, *_models}
    _models.extend(name for name in names if name not in known)
    del _models[:-_MOST_MODELS]


def template_names() -> list[str]:
    """The names of all templates, as they were last read."""
    return list(_templates)


def adapter_names() -> list[str]:
    """The names of all adapters, as the workers last listed them; the first option is none."""
    return [NO_ADAPTER, *adapters.known_names()]


def refresh() -> None:
    """Reads the labels and the templates' names again."""
    here = folders()
    _labels[:] = lookup.labels(here)
    _templates[:] = sorted(templates.find(templates.search_path(here.user)).templates)


@web.middleware
async def refreshing(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refreshes the options before ComfyUI describes its nodes; other requests pass unchanged."""
    if request.path.removeprefix("/api").startswith("/object_info"):
        await asyncio.to_thread(refresh)
    return await handler(request)
