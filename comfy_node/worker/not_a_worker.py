"""Explains what is wrong if something other than a worker answers at a worker's address."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import aiohttp

from ..settings.config import WorkerConfig
from ..texts import WorkerError, printable, say
from .errors import NoWorker

_AWAY = (502, 503, 504)
"""HTTP statuses by which a proxy reports that the worker behind it does not answer."""
_LOGINS = (401, 407)
_NO_UPGRADE = (400, 426)
_REDIRECTS = range(300, 400)
_PROBE_SECONDS = 3.0

OTHER_PROGRAM = say("Correct the address, or give the worker another port with --listen.")


def no_answer(config: WorkerConfig, why: str) -> NoWorker:
    """The error for an address at which nothing answers for now."""
    return NoWorker(
        say("No ovis-worker answers at {address}: {why}.", address=config.address, why=why)
    )


def from_http_status(config: WorkerConfig, status: int, *, redirected: bool = False) -> WorkerError:
    """The error for an HTTP answer that opens no websocket, or is not a worker's page.

    ``redirected``: the first answer redirected to the one that has this status.
    """
    about = {"address": config.address, "status": status}
    with_login = say("Write the address with its login: wss://USER:PASSWORD@HOST:PORT")
    if status in _AWAY:
        # A worker that is stopping answers with 503 too.
        why = (
            say("it is shutting down, or a proxy reports it as unavailable (HTTP status 503)")
            if status == 503
            else say("a proxy answers with HTTP status {status}", status=status)
        )
        return no_answer(config, why)
    if status in _LOGINS:
        return WorkerError(
            say("A proxy at {address} asks for a login (HTTP status {status}).", **about),
            with_login,
        )
    if redirected or status in _REDIRECTS:
        return WorkerError(
            say(
                "{address} redirects to another page, such as a login page (HTTP status {status}).",
                **about,
            ),
            with_login,
        )
    if status == 403:
        return WorkerError(
            say("{address} refuses the connection (HTTP status 403).", **about),
            say(
                "Start the worker with --allowed-host and this host name. If a proxy "
                "requires a login, add it to the address: wss://USER:PASSWORD@HOST:PORT"
            ),
        )
    if status == 404:
        return WorkerError(
            say(
                "There is no ovis-worker at {address} with the path {path} (HTTP status 404).",
                path=printable(config.endpoint.path, 100),
                **about,
            ),
            say(
                "Add the worker's path to the address, such as wss://HOST/ovis/ws. If the "
                "path is right, another program uses the port."
            ),
        )
    if status in _NO_UPGRADE:
        return WorkerError(
            say(
                "{address} does not accept a websocket (HTTP status {status}).",
                **about,
            ),
            say(
                "Configure the proxy in front of the worker to forward websockets; for "
                "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
                'proxy_set_header Connection "upgrade";'
            ),
        )
    return WorkerError(
        say("Another program answers at {address} (HTTP status {status}).", **about),
        OTHER_PROGRAM,
    )


def from_tls_error(config: WorkerConfig, error: Exception) -> WorkerError | None:
    """The error for a failed TLS handshake; ``None`` if ``error`` has another cause."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        return WorkerError(
            say(
                "The certificate of {address} is not trusted on this machine: {why}.",
                address=config.address,
                why=printable(why),
            ),
            say(
                "Use a certificate that a known authority has issued for this host name, or "
                "set the environment variable SSL_CERT_FILE of ComfyUI to the certificate's "
                "file."
            ),
        )
    if not isinstance(error, aiohttp.ClientConnectorSSLError):
        return None
    reason = getattr(error.os_error, "reason", "") or ""
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return WorkerError(
            say("{address} does not use TLS.", address=config.address),
            say(
                "Write the address with ws:// instead of wss://: ws://{address}",
                address=config.address,
            ),
        )
    return WorkerError(
        say(
            "The TLS connection to {address} failed: {why}.",
            address=config.address,
            why=printable(reason or error.os_error),
        ),
        say("Check the TLS settings of the proxy in front of the worker."),
    )


async def probe_for_tls(config: WorkerConfig) -> WorkerError | None:
    """Finds out whether a ``ws://`` address, which failed without TLS, speaks TLS."""
    if config.endpoint.scheme != "ws":
        return None
    trust_anyone = ssl.create_default_context()
    trust_anyone.check_hostname, trust_anyone.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await asyncio.wait_for(
            asyncio.open_connection(config.endpoint.host, config.endpoint.port, ssl=trust_anyone),
            _PROBE_SECONDS,
        )
    except (OSError, asyncio.TimeoutError, ValueError):
        return None
    writer.close()
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), _PROBE_SECONDS)
    return WorkerError(
        say("{address} accepts only TLS connections.", address=config.address),
        say(
            "Write the address with wss:// instead of ws://: wss://{address}",
            address=config.address,
        ),
    )
