"""The JSON that a request brings."""

from __future__ import annotations

import json
import math

from aiohttp import web

from ..texts import WorkerError, say

MOST_BYTES = 1 << 20
LARGEST_NUMBER = 1e9


async def asked_for(request: web.Request) -> dict:
    """The request's JSON object; raises :class:`WorkerError` when it is none, or too large."""
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > MOST_BYTES:
            raise WorkerError(say("The request is larger than {most} KiB.", most=MOST_BYTES >> 10))
    try:
        asked = json.loads(bytes(body), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise WorkerError(say("The request is not JSON.")) from error
    if not isinstance(asked, dict):
        raise WorkerError(say("The request is not a JSON object."))
    return asked


def is_number(value: object) -> bool:
    """Whether it is a number that may be shown and compared; a truth value is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST_NUMBER and math.isfinite(value)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
