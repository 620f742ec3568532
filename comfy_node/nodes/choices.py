"""The options of widgets that depend on files: workers' labels and templates' names.

ComfyUI asks a node for its schema again and again, also for every node of a prompt. So a schema
takes these options from memory; they are read when ComfyUI starts, before it answers
``/object_info``, which the frontend requests when it is loaded and when R is pressed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from ..prompts import templates
from ..settings import lookup
from ..settings.config import DEFAULT_LABEL
from ..worker import adapters
from .comfyui import folders

NO_ADAPTER = ""
"""The option of a chooser of adapters that applies none."""

_labels = [DEFAULT_LABEL]
_templates: list[str] = []


def worker_labels() -> list[str]:
    """The labels of all workers, as they were last read."""
    return list(_labels)


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
