"""Asks workers to unload the models that run no jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import aiohttp

from ..settings.config import WorkerConfig
from ..texts import WorkerError
from .handshake import authorization
from .tls import connector

log = logging.getLogger("ovis-worker")

SECONDS = 3.0
"""How long a worker may take to answer."""


async def free_all(configs: Iterable[WorkerConfig]) -> None:
    """Asks each worker that runs; one that does not answer, or refuses, has its line in the log."""
    await asyncio.gather(*(_free(config) for config in configs))


async def _free(config: WorkerConfig) -> None:
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    try:
        async with (
            aiohttp.ClientSession(connector=connector(config), timeout=timeout) as session,
            session.post(
                config.endpoint.http_url("free"),
                headers=authorization(config),
                allow_redirects=False,
            ) as answer,
        ):
            log.debug("The worker `%s` answers %d to /free.", config.label, answer.status)
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError, WorkerError) as error:
        log.debug("The worker `%s` does not free its memory: %s", config.label, error)
