"""The JSON body of a request."""

from __future__ import annotations

import json
import math

from aiohttp import web

from ..texts import WorkerError, say

MAX_BYTES = 1 << 20
LARGEST_NUMBER = 1e9


async def read_json_object(request: web.Request) -> dict:
    """Reads the request's JSON object; raises :class:`WorkerError` if it is invalid."""
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > MAX_BYTES:
            raise WorkerError(say("The request is larger than {most} KiB.", most=MAX_BYTES >> 10))
    try:
        asked = json.loads(bytes(body), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise WorkerError(say("The request is not JSON.")) from error
    if not isinstance(asked, dict):
        raise WorkerError(say("The request is not a JSON object."))
    return asked


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number of moderate size; a boolean is not a number here."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST_NUMBER and math.isfinite(value)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
