"""The adapters of the workers, as they were last listed.

ComfyUI asks for a node's options again and again, and a list takes a request to the worker; so the
options are those of the last list, which the browser asks for when a node shows it.
"""

from __future__ import annotations

import asyncio
import threading

from .. import wire
from ..settings.config import WorkerConfig
from ..texts import printable
from .client import client_for

_lists: dict[str, list[wire.AdapterInfo]] = {}
_lock = threading.Lock()


async def listed(config: WorkerConfig) -> list[wire.AdapterInfo]:
    """Asks a worker that runs. Raises :class:`WorkerError` if it does not answer."""
    found = await asyncio.wrap_future(client_for(config).adapters())
    with _lock:
        _lists[config.label] = found
    return found


def known_names() -> list[str]:
    """The names of all adapters that were listed so far, of all workers."""
    with _lock:
        return sorted({adapter.name for found in _lists.values() for adapter in found})


def known(label: str, name: str) -> wire.AdapterInfo | None:
    """An adapter of a worker as it was last listed."""
    with _lock:
        return next((one for one in _lists.get(label, []) if one.name == name), None)


def described(adapter: wire.AdapterInfo) -> dict:
    """An adapter for the browser, its texts bounded and without control characters."""
    return {
        "name": adapter.name,
        "hash": adapter.hash.hex(),
        "kind": printable(adapter.kind, 100),
        "rank": adapter.rank,
        "bytes": adapter.bytes,
        "title": printable(adapter.title, 200) if adapter.title else "",
        "triggers": [printable(word, 200) for word in adapter.triggers],
        "parts": adapter.parts,
        "has_picture": bool(adapter.preview),
    }
