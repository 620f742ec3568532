"""Opens the websocket to a worker and exchanges hellos."""

from __future__ import annotations

import asyncio
import base64
import secrets
import struct
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import aiohttp

from .. import wire
from ..settings.config import VERSION, WorkerConfig
from ..settings.secret import Secret
from ..texts import WorkerError, printable, say
from ..wire import WireFormatError
from .errors import from_wire
from .not_a_worker import OTHER_PROGRAM, from_http_status, no_answer
from .tls import from_tls_error, probe_for_tls
from .update_hint import how_to_update_pack, how_to_update_worker

CLIENT_NAME = f"ovis-worker comfy_node {VERSION} {secrets.token_hex(4)}"
"""Identifies this ComfyUI to the worker, which shares its time between clients by their names."""

CONNECT_SECONDS = 10.0
UPGRADE_SECONDS = 15.0
"""How long the answer to the websocket upgrade may take after the TCP connection is open."""
HELLO_SECONDS = 15.0
HEARTBEAT_SECONDS = 60.0
_MAX_REFUSAL_BYTES = 2000


def http_login(config: WorkerConfig) -> dict[str, str]:
    """The authorization header for a proxy in front of the worker, if the address has a login."""
    login = config.endpoint.login_text()
    if login is None:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def authorization(config: WorkerConfig) -> dict[str, str]:
    """The authorization header of an HTTP request: the login of a proxy, or the worker's token."""
    login = http_login(config)
    if login or not config.token:
        return login
    return {"Authorization": f"Bearer {config.token.reveal()}"}


async def open_socket(
    session: aiohttp.ClientSession, config: WorkerConfig
) -> aiohttp.ClientWebSocketResponse:
    """Opens the websocket to the worker.

    Raises :class:`NoWorker` if nothing answers, and :class:`WorkerError` if something answers
    without opening a websocket.
    """
    try:
        return await asyncio.wait_for(
            session.ws_connect(
                config.endpoint.socket_url,
                max_msg_size=wire.MAX_MESSAGE_BYTES,
                compress=0,
                heartbeat=HEARTBEAT_SECONDS,
                headers=http_login(config),
            ),
            CONNECT_SECONDS + UPGRADE_SECONDS,
        )
    except aiohttp.WSServerHandshakeError as error:
        raise await _no_websocket(session, config, error) from error
    except asyncio.TimeoutError as error:
        raise no_answer(config, say("the connection timed out")) from error
    except aiohttp.ClientConnectorError as error:
        raise await from_tls_error(config, error) or no_answer(config, printable(error)) from error
    except aiohttp.ServerFingerprintMismatch as error:
        raise await from_tls_error(config, error) from error
    except aiohttp.InvalidURL as error:  # its text is the address, with its secrets
        raise no_answer(config, say("the address is invalid")) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise await probe_for_tls(config) or no_answer(config, printable(error)) from error


async def exchange_hellos(
    socket: aiohttp.ClientWebSocketResponse, config: WorkerConfig, owner: Secret
) -> wire.WorkerHello:
    """Sends our hello, with the secret of the jobs' owner, and returns the worker's.

    Raises :class:`NoWorker` if the connection ends first, and :class:`WorkerError` if the worker
    refuses, speaks another protocol version, or another program answers.
    """
    not_ours = WorkerError(
        say(
            "Another program answers at {address}.",
            address=config.address,
        ),
        OTHER_PROGRAM,
    )
    token = config.token.reveal() if config.token else None
    secret = bytes.fromhex(owner.reveal())
    hello = wire.ClientHello(wire.MAGIC, wire.PROTOCOL_VERSION, CLIENT_NAME, token, secret)
    try:
        await socket.send_bytes(wire.encode_client(hello))
        frame = await asyncio.wait_for(socket.receive(), HELLO_SECONDS)
    except asyncio.TimeoutError as error:
        raise no_answer(config, say("it accepts connections, but sends no hello")) from error
    except (aiohttp.ClientError, OSError) as error:
        raise no_answer(config, printable(error)) from error
    if frame.type in (
        aiohttp.WSMsgType.CLOSE,
        aiohttp.WSMsgType.CLOSING,
        aiohttp.WSMsgType.CLOSED,
        aiohttp.WSMsgType.ERROR,
    ):
        raise no_answer(config, say("it closed the connection before it sent its hello"))
    if frame.type is not aiohttp.WSMsgType.BINARY or len(frame.data) < 12:
        raise not_ours
    # These three fields have the same place in every version of the protocol.
    _, magic, protocol = struct.unpack_from("<III", frame.data)
    if magic != wire.MAGIC:
        raise not_ours
    if protocol != wire.PROTOCOL_VERSION:
        raise _other_version(config, protocol)
    try:
        answer = wire.decode_worker(frame.data)
    except WireFormatError as error:
        raise not_ours from error
    if isinstance(answer, wire.Refused):
        raise from_wire(answer.error)
    if not isinstance(answer, wire.WorkerHello):
        raise not_ours
    return answer


async def refusal_in_words(session: aiohttp.ClientSession, config: WorkerConfig) -> str:
    """The text of a worker that refuses requests with HTTP status 403; empty if there is none."""
    try:
        async with session.get(
            config.endpoint.http_url("health"),
            headers=http_login(config),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=UPGRADE_SECONDS),
        ) as answer:
            if answer.status == 403 and answer.content_type == "text/plain":
                words = await answer.content.read(_MAX_REFUSAL_BYTES)
                return printable(words.decode("utf-8", "replace"))
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError):
        pass
    return ""


def refused_by_http(config: WorkerConfig, words: str) -> WorkerError:
    """The error for a worker that refuses requests over HTTP, with the worker's own words."""
    return WorkerError(
        say(
            "The worker at {address} refused the request: {words}",
            address=config.address,
            words=words,
        ),
        say(
            "Use a host name that the worker was started with (--allowed-host), or its IP address."
        ),
    )


async def _no_websocket(
    session: aiohttp.ClientSession, config: WorkerConfig, error: aiohttp.WSServerHandshakeError
) -> WorkerError:
    words = await refusal_in_words(session, config) if error.status == 403 else ""
    if words:
        return refused_by_http(config, words)
    # nginx answers plain HTTP with status 400 on a port for TLS.
    speaks_tls = await probe_for_tls(config) if error.status == 400 else None
    return speaks_tls or from_http_status(
        config,
        error.status,
        redirected=bool(error.history),
        retry_after=_retry_after(error.headers or {}),
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The header ``Retry-After`` in seconds: it holds a number of seconds or a date (RFC 9110)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


def _other_version(config: WorkerConfig, theirs: int) -> WorkerError:
    older = how_to_update_worker(config) if theirs < wire.PROTOCOL_VERSION else how_to_update_pack()
    return WorkerError(
        say(
            "The worker at {address} speaks protocol version {theirs}, this node pack version "
            "{ours}.",
            address=config.address,
            theirs=theirs,
            ours=wire.PROTOCOL_VERSION,
        ),
        older,
        wire.ErrorCode.VERSION_MISMATCH,
    )
