"""How a worker is, as a sidebar and a node show it."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, fields
from urllib.parse import urlsplit

import aiohttp

from . import worker_process
from .client import known_client
from .errors import WorkerError
from .settings import SOCKET_PATH, WorkerConfig
from .texts import say

ANSWER_SECONDS = 3.0
_MOST_BYTES = 64 << 10
_METRIC = re.compile(r"^ovis_(device_bytes_used|device_bytes_total) (\S+)$", re.MULTILINE)


@dataclass
class WorkerStatus:
    """One look at a worker. What is not known is ``None``."""

    label: str
    address: str
    state: str = "away"
    """``connected``; ``ready``: it answers; ``starting``; ``away``; ``other``: not a worker."""
    problem: WorkerError | None = None
    model: str | None = None
    device: str | None = None
    precision: str | None = None
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

    def as_json(self, language: str = "en") -> dict:
        """For the browser, with the problem in its language."""
        problem = self.problem.text(language) if self.problem else ""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "problem": problem
        }


async def look_at(config: WorkerConfig) -> WorkerStatus:
    """Asks the worker over HTTP, which neither starts it nor needs its secret."""
    status = WorkerStatus(config.label, config.address)
    client = known_client(config)
    try:
        await _ask(config, status)
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
        if client is not None:
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
    status.can_start = startable and status.state == "away"
    # Reads files, and on some systems runs a program.
    is_ours = await asyncio.to_thread(worker_process.may_stop, config)
    status.can_stop = status.state != "away" and is_ours
    return status


async def _ask(config: WorkerConfig, status: WorkerStatus) -> None:
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        health, metrics = [await _get(session, config, path) for path in ("health", "metrics")]
    try:
        said = json.loads(health)
        status.model, status.device = str(said["model"]), str(said["device"])
        status.precision = str(said["precision"])
        status.queued, status.running = int(said["queued"]), int(said["running"])
    except (ValueError, KeyError, TypeError):
        status.state = "other"
        status.problem = WorkerError(
            say("What answers at {address} is not an ovis-worker.", address=config.address)
        )
        return
    status.state = "ready"
    memory = {name: int(float(value)) for name, value in _METRIC.findall(metrics)}
    # 0 is a device that does not say.
    status.memory_used = memory.get("device_bytes_used") or None
    status.memory_total = memory.get("device_bytes_total") or None


async def _get(session: aiohttp.ClientSession, config: WorkerConfig, path: str) -> str:
    url = urlsplit(config.url)
    scheme = {"ws": "http", "wss": "https"}[url.scheme]
    folder = url.path.removesuffix(SOCKET_PATH)
    async with session.get(f"{scheme}://{url.netloc}{folder}/{path}") as answer:
        return (await answer.content.read(_MOST_BYTES)).decode("utf-8", "replace")
