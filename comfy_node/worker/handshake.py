"""From a worker's address to an open socket whose hellos are exchanged."""

from __future__ import annotations

import asyncio
import base64
import secrets
import struct

import aiohttp

from .. import wire
from ..settings.config import WorkerConfig
from ..texts import WorkerError, say, shown
from ..wire import WireFormatError
from .errors import from_wire
from .not_a_worker import OTHER_PROGRAM, by_plain, by_status, by_tls, no_answer

CLIENT_NAME = f"ovis-worker comfy_node 0.1.0 {secrets.token_hex(4)}"
"""Tells the worker this ComfyUI from others at the same address, so that they take turns."""

CONNECT_SECONDS = 10.0
UPGRADE_SECONDS = 15.0
"""How long the answer to the upgrade may take: what accepts a connection may never speak."""
HELLO_SECONDS = 15.0
HEARTBEAT_SECONDS = 60.0
_MOST_WORDS_BYTES = 2000


def http_login(config: WorkerConfig) -> dict[str, str]:
    """The header that a proxy in front of the worker asks for, where the address has a login."""
    login = config.where.login_text()
    if login is None:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


async def open_socket(
    session: aiohttp.ClientSession, config: WorkerConfig
) -> aiohttp.ClientWebSocketResponse:
    """The websocket to the worker.

    Raises :class:`NoWorker` when nothing answers, :class:`WorkerError` when something
    answers that does not open one.
    """
    try:
        return await asyncio.wait_for(
            session.ws_connect(
                config.where.socket_url,
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
        raise no_answer(config, say("it took too long")) from error
    except aiohttp.ClientConnectorError as error:
        raise by_tls(config, error) or no_answer(config, shown(error)) from error
    except aiohttp.InvalidURL as error:  # its words are the address, with its secrets
        raise no_answer(config, say("it is not an address")) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise await by_plain(config) or no_answer(config, shown(error)) from error


async def exchange_hellos(
    socket: aiohttp.ClientWebSocketResponse, config: WorkerConfig
) -> wire.WorkerHello:
    """The worker's hello.

    Raises :class:`NoWorker` when the connection ends before it, :class:`WorkerError`
    when the worker refuses or something else answers.
    """
    not_ours = WorkerError(
        say(
            "What answers at {address} is not an ovis-worker: it did not say hello.",
            address=config.address,
        ),
        OTHER_PROGRAM,
    )
    token = config.token.reveal() if config.token else None
    hello = wire.ClientHello(wire.MAGIC, wire.PROTOCOL_VERSION, CLIENT_NAME, token)
    try:
        await socket.send_bytes(wire.encode_client(hello))
        frame = await asyncio.wait_for(socket.receive(), HELLO_SECONDS)
    except asyncio.TimeoutError as error:
        raise no_answer(config, say("it accepts connections, but says no hello")) from error
    except (aiohttp.ClientError, OSError) as error:
        raise no_answer(config, shown(error)) from error
    if frame.type in (
        aiohttp.WSMsgType.CLOSE,
        aiohttp.WSMsgType.CLOSING,
        aiohttp.WSMsgType.CLOSED,
        aiohttp.WSMsgType.ERROR,
    ):
        raise no_answer(config, say("it closed the connection before its hello"))
    if frame.type is not aiohttp.WSMsgType.BINARY or len(frame.data) < 12:
        raise not_ours
    # These three fields keep their place in every version; the rest may not.
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
    """What a worker that refuses requests with HTTP status 403 says about it, or nothing."""
    try:
        async with session.get(
            config.where.http_url("health"),
            headers=http_login(config),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=UPGRADE_SECONDS),
        ) as answer:
            if answer.status == 403 and answer.content_type == "text/plain":
                words = await answer.content.read(_MOST_WORDS_BYTES)
                return shown(words.decode("utf-8", "replace"))
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError):
        pass
    return ""


def refused_by_http(config: WorkerConfig, words: str) -> WorkerError:
    """A worker's refusal over HTTP, as its own sentence."""
    return WorkerError(
        say("The worker at {address} refuses: {words}", address=config.address, words=words),
        say("Use an address that the worker was told, or its IP address."),
    )


async def _no_websocket(
    session: aiohttp.ClientSession, config: WorkerConfig, error: aiohttp.WSServerHandshakeError
) -> WorkerError:
    words = await refusal_in_words(session, config) if error.status == 403 else ""
    if words:
        return refused_by_http(config, words)
    # nginx says 400 in plain HTTP where its port is one for TLS.
    speaks_tls = await by_plain(config) if error.status == 400 else None
    return speaks_tls or by_status(config, error.status, redirected=bool(error.history))


def _other_version(config: WorkerConfig, theirs: int) -> WorkerError:
    older = (
        say("Update the worker, which is the older of the two.")
        if theirs < wire.PROTOCOL_VERSION
        else say("Update the node pack, which is the older of the two.")
    )
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
