"""Decides which requests are accepted.

Every web page can send requests to a ComfyUI on its visitor's machine. So a request that changes
something must come from a page of this ComfyUI. A request that names programs or starts them must
also come from this machine; so must one that names addresses and tokens, unless ComfyUI is open to
other machines (:mod:`.remote`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from ..settings.address import is_loopback
from ..texts import LANGUAGES, WorkerError, say, translated

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_FORWARDED = (
    "forwarded",
    "via",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-",
    "x-envoy-",
    "true-client-ip",
    "cf-",
    "fly-",
    "tailscale-",
)
"""Prefixes of the headers that proxies and tunnels add."""

_TRADITIONAL_CHINESE = re.compile(r"zh-(?:hant|tw|hk|mo)\b", re.IGNORECASE)
"""Language tags that fall back to English, because the pack's Chinese is Simplified Chinese."""


def is_local(request: web.Request) -> bool:
    """Whether a browser on this machine sent the request, directly and from one of our pages."""
    return (
        is_loopback(request.remote)
        and is_loopback(_host(request))
        and not _is_forwarded(request)
        and _is_same_origin(request)
    )


def language_of(request: web.Request) -> str:
    """The language of the page that sent the request; the pack's script sends exactly one."""
    asked = request.headers.get("Accept-Language", "")
    language = "" if _TRADITIONAL_CHINESE.match(asked) else asked[:2]
    return language if language in LANGUAGES else LANGUAGES[0]


def refusal(request: web.Request, *, is_change: bool = True) -> str | None:
    """Why a request is refused that changes something, or that asks for what a page may change.

    ``None`` if it is accepted.
    """
    if is_change and request.content_type != "application/json":
        # A page of another origin can send forms, but JSON only if CORS allows it.
        return say("Only JSON is accepted here.")
    if not _is_same_origin(request):
        return say("This request comes from another web page.")
    is_direct = is_loopback(request.remote) and not _is_forwarded(request)
    if is_direct and not is_loopback(_host(request)):
        # DNS rebinding: another site's host name that resolves to this machine.
        return say("The host name in this request does not belong to this machine.")
    return None


def guarded(handler: Handler, *, local: bool = False, remote: bool = False) -> Handler:
    """Wraps a handler so that it answers only this ComfyUI's pages, with readable errors.

    With ``local`` it answers only a browser on this machine, unless ``remote`` is set too.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        why = refusal(request)
        if why is None and local and not (remote or is_local(request)):
            why = say(
                "Settings that name programs or contain secrets can be changed only in a "
                "browser on the machine that ComfyUI runs on, or in ovis_worker.json there. "
                "Programs can be started and stopped only there."
            )
        if why is not None:
            return web.json_response({"error": translated(why, language_of(request))}, status=403)
        return await with_readable_errors(handler)(request)

    return answer


def with_readable_errors(handler: Handler) -> Handler:
    """Wraps a handler so that a :class:`WorkerError` becomes a JSON answer with status 400."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except WorkerError as error:
            parts = {"error": error.message, "hint": error.hint}
            language = language_of(request)
            body = {name: translated(part, language) for name, part in parts.items()}
            return web.json_response(body, status=400)

    return answer


def _is_forwarded(request: web.Request) -> bool:
    return any(name.lower().startswith(_FORWARDED) for name in request.headers)


def _is_same_origin(request: web.Request) -> bool:
    """Whether the request comes from one of our pages, or from a program that is not a browser."""
    origin = request.headers.get("Origin")
    try:
        if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
            return False
    except ValueError:
        return False
    return request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")


def _host(request: web.Request) -> str | None:
    try:
        return urlsplit(f"//{request.host}").hostname
    except ValueError:
        return None
