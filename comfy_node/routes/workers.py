"""Routes for the workers: list, status, start, stop, and settings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from ..settings import file, lookup, store
from ..settings.address import read_address, without_login
from ..settings.config import ComfyFolders, WorkerConfig
from ..texts import WorkerError, say, translated
from ..worker import process as worker_process
from ..worker.client import client_for
from ..worker.errors import NoWorker
from ..worker.start_hint import how_to_start
from ..worker.status import query_status
from .guard import guarded, is_local, language_of, refusal, with_readable_errors
from .json_body import read_json_object

WORKER = "/ovis-worker/workers/{label}"


def add_routes(
    routes: web.RouteTableDef,
    folders: Callable[[], ComfyFolders],
    *,
    remote_settings: bool = False,
    changed: Callable[[], None] = lambda: None,
    told: Callable[[list[str]], None] = lambda _: None,
) -> None:
    """Adds the routes; ``folders`` returns ComfyUI's folders.

    With ``remote_settings``, this ComfyUI's pages on other machines may change addresses and
    tokens, but nothing that names a program or a path. After a change, ``changed`` is called.
    ``told`` is called with the names of a worker's models.
    """

    def config_of(request: web.Request) -> WorkerConfig:
        return lookup.resolve(request.match_info["label"], folders())

    def fields_of(request: web.Request) -> list[str]:
        """The settings that the page which sent the request may change."""
        if is_local(request):
            return list(store.FIELDS)
        is_ours = remote_settings and refusal(request, is_change=False) is None
        return list(store.FIELDS_FROM_ELSEWHERE) if is_ours else []

    async def list_all(request: web.Request) -> web.Response:
        """Lists every worker, with the settings that the page may change."""
        fields = fields_of(request)
        here = folders()
        language = language_of(request)
        workers = [_listed(label, here, fields, language) for label in lookup.labels(here)]
        may = {"may_edit": bool(fields), "fields": fields, "may_act": is_local(request)}
        return web.json_response({"workers": workers, **may})

    async def status(request: web.Request) -> web.Response:
        """A worker's status. A browser on another machine is not offered to start or stop it."""
        found = await query_status(config_of(request), may_act=is_local(request))
        told(found.models)
        return web.json_response(found.as_json(language_of(request)))

    async def start(request: web.Request) -> web.Response:
        """Starts the binary that the settings name; the browser follows the start by status."""
        config = config_of(request)
        if not (config.is_on_this_machine and config.binary):
            raise NoWorker(
                say("The worker `{label}` cannot be started from here.", label=config.label),
                how_to_start(config),
            )
        # Starting continues after this answer; the status reports a failure.
        client_for(config).connect()
        return web.json_response({}, status=202)

    async def stop(request: web.Request) -> web.Response:
        """Stops a worker that the pack has started."""
        worker_process.stop(config_of(request))
        return web.json_response({}, status=202)

    async def save(request: web.Request) -> web.Response:
        """Changes a worker's settings.

        ``restart_needed`` in the answer: its process still runs with the old settings.
        """
        label = request.match_info["label"]
        save = store.save if is_local(request) else store.save_from_elsewhere
        save(_folder(folders()), label, await read_json_object(request))
        changed()
        return web.json_response({"restart_needed": await _needs_restart(label, folders())})

    async def remove(request: web.Request) -> web.Response:
        """Removes a worker's settings; answers as ``save`` does."""
        label = request.match_info["label"]
        remove = store.remove if is_local(request) else store.remove_from_elsewhere
        remove(_folder(folders()), label)
        changed()
        return web.json_response({"restart_needed": await _needs_restart(label, folders())})

    routes.get("/ovis-worker/workers")(with_readable_errors(list_all))
    routes.get(f"{WORKER}/status")(with_readable_errors(status))
    routes.post(f"{WORKER}/start")(guarded(start, local=True))
    routes.post(f"{WORKER}/stop")(guarded(stop, local=True))
    routes.post(f"{WORKER}/save")(guarded(save, local=True, remote=remote_settings))
    routes.post(f"{WORKER}/remove")(guarded(remove, local=True, remote=remote_settings))


def _listed(label: str, folders: ComfyFolders, fields: list[str], language: str) -> dict:
    """A worker's entry in the list, without secrets."""
    told: dict = {"label": label}
    try:
        config = lookup.resolve(label, folders)
        told |= {"address": config.address, "here": config.is_on_this_machine}
    except WorkerError as error:
        told["problem"] = translated(error.message, language)
    return told | _editable(label, folders, fields) if fields else told


def _editable(label: str, folders: ComfyFolders, fields: list[str]) -> dict:
    """What the settings dialog shows of a worker, even if its settings are invalid."""
    entry = None
    with contextlib.suppress(WorkerError):  # `_listed` already reports an unreadable file
        entry = file.read_entries(folders.private).get(label)
    texts = entry if isinstance(entry, dict) else {}
    overridden = lookup.overridden(label)
    return {
        "described": entry is not None,
        "settings": {
            key: _display_url(texts.get(key)) if key == "url" else str(texts.get(key) or "")
            for key in fields
            if key != "token"
        },
        "has_token": bool(texts.get("token")) or "token" in overridden,
        "overridden": overridden,
    }


def _display_url(url: object) -> str:
    """The address as it was typed, but with login and query hidden."""
    url = str(url or "")
    try:
        address = read_address(url)
    except WorkerError:
        return without_login(url)
    return address.display_url if address.login or address.query else url


async def _needs_restart(label: str, folders: ComfyFolders) -> bool:
    try:
        config = lookup.resolve(label, folders)
    except WorkerError:
        return False  # removed, or another of its settings is invalid
    return await asyncio.to_thread(worker_process.needs_restart, config)


def _folder(folders: ComfyFolders) -> Path:
    if folders.private is None:
        raise WorkerError(say("ComfyUI has no user folder to keep settings in."))
    return folders.private
