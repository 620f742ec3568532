"""The workers: which there are, how they are, start and stop, and their settings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from ..settings import file, lookup, store
from ..settings.address import read_address, without_login
from ..settings.config import Places, WorkerConfig
from ..texts import WorkerError, say, translated
from ..worker import process as worker_process
from ..worker.client import client_for
from ..worker.errors import NoWorker
from ..worker.start_hint import how_to_start
from ..worker.status import look_at
from .guard import guarded, is_local, language_of, spoken
from .json_body import asked_for

WORKER = "/ovis-worker/workers/{label}"


def add_routes(routes: web.RouteTableDef, places: Callable[[], Places]) -> None:
    """Adds what needs to know ComfyUI's folders."""

    def meant(request: web.Request) -> WorkerConfig:
        return lookup.resolve(request.match_info["label"], places())

    async def list_all(request: web.Request) -> web.Response:
        """Every worker; what its settings are only for a browser on this machine."""
        local = is_local(request)
        here = places()
        language = language_of(request)
        workers = [_described(label, here, local, language) for label in lookup.labels(here)]
        return web.json_response({"workers": workers, "may_edit": local})

    async def status(request: web.Request) -> web.Response:
        """How one is; who may not start and stop it is not told that it can be."""
        found = await look_at(meant(request), may_act=is_local(request))
        return web.json_response(found.as_json(language_of(request)))

    async def start(request: web.Request) -> web.Response:
        """Starts the binary that the settings name; the status says how that goes on."""
        config = meant(request)
        if not (config.is_on_this_machine and config.binary):
            raise NoWorker(
                say("The worker `{label}` cannot be started from here.", label=config.label),
                how_to_start(config),
            )
        # It goes on after this answer; a failure is kept for the status.
        client_for(config).connect()
        return web.json_response({}, status=202)

    async def stop(request: web.Request) -> web.Response:
        """Ends a worker that the pack has started."""
        worker_process.stop(meant(request))
        return web.json_response({}, status=202)

    async def save(request: web.Request) -> web.Response:
        """Changes a worker's settings; ``restart_needed``: its process still has others."""
        label = request.match_info["label"]
        store.save(_folder(places()), label, await asked_for(request))
        return web.json_response({"restart_needed": await _needs_restart(label, places())})

    async def remove(request: web.Request) -> web.Response:
        """Takes a worker's settings away; the answer is as that of ``save``."""
        label = request.match_info["label"]
        store.remove(_folder(places()), label)
        return web.json_response({"restart_needed": await _needs_restart(label, places())})

    routes.get("/ovis-worker/workers")(spoken(list_all))
    routes.get(f"{WORKER}/status")(spoken(status))
    routes.post(f"{WORKER}/start")(guarded(start, local=True))
    routes.post(f"{WORKER}/stop")(guarded(stop, local=True))
    routes.post(f"{WORKER}/save")(guarded(save, local=True))
    routes.post(f"{WORKER}/remove")(guarded(remove, local=True))


def _described(label: str, places: Places, local: bool, language: str) -> dict:
    """A worker for the list; never its secret."""
    told: dict = {"label": label}
    try:
        config = lookup.resolve(label, places)
        told |= {"address": config.address, "here": config.is_on_this_machine}
    except WorkerError as error:
        told["problem"] = translated(error.message, language)
    return told | _kept(label, places) if local else told


def _kept(label: str, places: Places) -> dict:
    """What the settings dialog shows of a worker, also of one that is described wrongly."""
    entry = None
    with contextlib.suppress(WorkerError):  # an unreadable file is the worker's problem already
        entry = file.entries(places.private).get(label)
    texts = entry if isinstance(entry, dict) else {}
    overridden = lookup.overridden(label)
    return {
        "described": entry is not None,
        "settings": {
            "url": _shown_url(str(texts.get("url") or "")),
            **{key: str(texts.get(key) or "") for key in ("binary", "model")},
        },
        "has_token": bool(texts.get("token")) or "token" in overridden,
        "overridden": overridden,
    }


def _shown_url(url: str) -> str:
    """An address for its owner to change: as it was typed, but for login and query."""
    try:
        address = read_address(url)
    except WorkerError:
        return without_login(url)
    return address.shown_url if address.login or address.query else url


async def _needs_restart(label: str, places: Places) -> bool:
    try:
        config = lookup.resolve(label, places)
    except WorkerError:
        return False  # removed, or saved while another of its settings is wrong
    return await asyncio.to_thread(worker_process.needs_restart, config)


def _folder(places: Places) -> Path:
    if places.private is None:
        raise WorkerError(say("ComfyUI has no user folder to keep settings in."))
    return places.private
