"""Who may ask for what.

ComfyUI listens where every web page can send requests. So whatever changes
something must come from a page of this ComfyUI, and what names programs must
come from this machine besides.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from ..errors import WorkerError
from ..texts import LANGUAGES, say, translated

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_FORWARDED = (
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-IP",
)


def is_loopback(host: str | None) -> bool:
    """Whether a host's name or address is this machine's own; names are not looked up."""
    if host is None:
        return False
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_local(request: web.Request) -> bool:
    """Whether a browser on this machine asks this machine, and no proxy stands between."""
    forwarded = any(name in request.headers for name in _FORWARDED)
    return is_loopback(request.remote) and is_loopback(_host(request)) and not forwarded


def language_of(request: web.Request) -> str:
    """The language of the page that asks: the pack's own script names it alone."""
    asked = request.headers.get("Accept-Language", "")[:2]
    return asked if asked in LANGUAGES else LANGUAGES[0]


def refusal(request: web.Request) -> str | None:
    """Why a request that changes something is not from a page of this ComfyUI."""
    if request.content_type != "application/json":
        # Another origin's page can send a form without asking, but not JSON.
        return say("Only JSON is taken here.")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
        return say("This request comes from another web page.")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return say("This request comes from another web page.")
    forwarded = any(name in request.headers for name in _FORWARDED)
    if is_loopback(request.remote) and not is_loopback(_host(request)) and not forwarded:
        # A page whose name was made to point to this machine.
        return say("This request names a host that this machine is not.")
    return None


def guarded(handler: Handler, *, local: bool = False) -> Handler:
    """The handler for requests from this ComfyUI's pages; errors become sentences.

    With ``local`` only for those of a browser on this machine.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        why = refusal(request)
        if why is None and local and not is_local(request):
            why = say(
                "Settings that name programs and secrets are changed in a browser on the machine "
                "that ComfyUI runs on, or in ovis_worker.json there."
            )
        if why is not None:
            return web.json_response({"error": translated(why, language_of(request))}, status=403)
        return await spoken(handler)(request)

    return answer


def spoken(handler: Handler) -> Handler:
    """The handler, with a :class:`WorkerError` as its sentence and hint."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except WorkerError as error:
            parts = {"error": error.message, "hint": error.hint}
            language = language_of(request)
            body = {name: translated(part, language) for name, part in parts.items()}
            return web.json_response(body, status=400)

    return answer


def _host(request: web.Request) -> str | None:
    try:
        return urlsplit(f"//{request.host}").hostname
    except ValueError:
        return None
