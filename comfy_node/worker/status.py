"""Queries a worker's status for the sidebar and for nodes."""

from __future__ import annotations

import asyncio
import json
import math
import re
from dataclasses import dataclass, field, fields

import aiohttp

from .. import wire
from ..settings.config import WorkerConfig
from ..texts import WorkerError, printable, say
from . import process as worker_process
from .client import known_client
from .errors import NoWorker
from .handshake import authorization, refused_by_http
from .not_a_worker import from_http_status
from .tls import connector, from_tls_error

ANSWER_SECONDS = 3.0
_MAX_BYTES = 64 << 10
_METRIC = re.compile(r"^ovis_(device_bytes_used|device_bytes_total) (\S+)$", re.MULTILINE)


@dataclass
class WorkerStatus:
    """The status of a worker at one moment. Unknown values are ``None``."""

    label: str
    address: str
    state: str = "away"
    """``connected``; ``ready``: answers; ``starting``; ``away``; ``other``: not a worker."""
    problem: WorkerError | None = None
    model: str | None = None
    device: str | None = None
    precision: str | None = None
    models: list[str] = field(default_factory=list)
    """The names of its models; the first is the default."""
    queued: int | None = None
    running: int | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    seconds_per_step: float | None = None
    position: int | None = None
    step: int | None = None
    steps: int | None = None
    can_start: bool = False
    can_stop: bool = False
    restart_needed: bool = False
    """Whether it was started from here with settings that have since changed."""

    def as_json(self, language: str = "en") -> dict:
        """The JSON for the browser, with the problem in its language."""
        problem = self.problem.text(language) if self.problem else ""
        return {one.name: getattr(self, one.name) for one in fields(self)} | {"problem": problem}


async def query_status(config: WorkerConfig, *, may_act: bool = True) -> WorkerStatus:
    """Asks the worker over HTTP, which does not start it. The token is sent in a header.

    ``may_act``: whether the requester may start and stop it.
    """
    status = WorkerStatus(config.label, config.address)
    client = known_client(config)
    try:
        await _query(config, status)
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
        tls_error = await from_tls_error(config, error)
        if tls_error is not None:
            status.state, status.problem = "other", tls_error
        elif client is not None:
            status.state = "starting" if client.starting else "away"
            status.problem = client.problem
    else:
        if client is not None:
            status.problem = client.problem if status.state == "ready" else status.problem
            if client.connected and status.state == "ready":
                status.state = "connected"
    if client is not None:
        pace = client.pace
        status.seconds_per_step, status.position = pace.seconds_per_step, pace.position
        if pace.steps:
            status.step, status.steps = pace.step, pace.steps
    startable = config.is_on_this_machine and config.binary is not None
    status.can_start = may_act and startable and status.state == "away"
    # Both read files, so they must not block the event loop.
    is_ours = await asyncio.to_thread(worker_process.may_stop, config)
    status.restart_needed = await asyncio.to_thread(worker_process.needs_restart, config)
    # A worker that was started before its address was changed runs, but does not answer here.
    status.can_stop = may_act and is_ours and (status.state != "away" or status.restart_needed)
    return status


async def _query(config: WorkerConfig, status: WorkerStatus) -> None:
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(connector=connector(config), timeout=timeout) as session:
        code, kind, health = await _get(session, config, "health")
        _, _, metrics = await _get(session, config, "metrics")
    if code == 403 and kind == "text/plain":
        status.state, status.problem = "other", refused_by_http(config, printable(health))
        return
    try:
        said = json.loads(health)
        status.model, status.device = printable(said["model"], 200), printable(said["device"], 200)
        status.precision = printable(said["precision"], 20)
        status.queued, status.running = int(said["queued"]), int(said["running"])
        status.models = _names(said.get("models", []))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        status.model = status.device = status.precision = None
        status.problem = _unexpected_page(config, code)
        status.state = "away" if isinstance(status.problem, NoWorker) else "other"
        return
    status.state = "ready"
    memory = {name: _bytes(value) for name, value in _METRIC.findall(metrics)}
    # 0 means that the device does not report it.
    status.memory_used = memory.get("device_bytes_used") or None
    status.memory_total = memory.get("device_bytes_total") or None


def _unexpected_page(config: WorkerConfig, code: int) -> WorkerError:
    if code == 200:
        return WorkerError(say("Another program answers at {address}.", address=config.address))
    return from_http_status(config, code)


def _names(models: object) -> list[str]:
    """The models' names in what `/health` says."""
    listed = models if isinstance(models, list) else []
    names = [str(one["name"]) for one in listed[: wire.MAX_MODELS] if isinstance(one, dict)]
    return [name for name in names if wire.is_model_name(name)]


def _bytes(text: str) -> int:
    """The value of a metric in bytes; 0 if it is not a valid number of bytes."""
    try:
        value = float(text)
    except ValueError:
        return 0
    return int(value) if math.isfinite(value) and value > 0 else 0


async def _get(
    session: aiohttp.ClientSession, config: WorkerConfig, page: str
) -> tuple[int, str, str]:
    url = config.endpoint.http_url(page)
    async with session.get(url, headers=authorization(config), allow_redirects=False) as answer:
        body = await answer.content.read(_MAX_BYTES)
        return answer.status, answer.content_type, body.decode("utf-8", "replace")
