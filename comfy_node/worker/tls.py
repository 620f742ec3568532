"""TLS to a worker: which certificates are trusted, and what is wrong where the handshake fails.

A worker without a certificate of an authority makes one itself and logs its SHA-256 fingerprint. A
worker's settings may pin that fingerprint; without one, the system's authorities decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl

import aiohttp

from ..settings.certificate import display_fingerprint
from ..settings.config import WorkerConfig
from ..texts import WorkerError, printable, say

_PROBE_SECONDS = 3.0


def connector(config: WorkerConfig) -> aiohttp.TCPConnector:
    """A connector that accepts only the pinned certificate, if the settings pin one.

    The certificate is compared before anything is sent, so that no secret reaches another server.
    """
    if config.fingerprint is None:
        return aiohttp.TCPConnector()
    return aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(bytes.fromhex(config.fingerprint)))


async def from_tls_error(config: WorkerConfig, error: Exception) -> WorkerError | None:
    """The error for a failed TLS handshake; ``None`` if ``error`` has another cause."""
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        return _other_certificate(config, error.got.hex())
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _not_trusted(config, error, await _certificate_at(config))
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
    if config.endpoint.scheme != "ws" or await _certificate_at(config) is None:
        return None
    return WorkerError(
        say("{address} accepts only TLS connections.", address=config.address),
        say(
            "Write the address with wss:// instead of ws://: wss://{address}",
            address=config.address,
        ),
    )


def _other_certificate(config: WorkerConfig, seen: str) -> WorkerError:
    return WorkerError(
        say(
            "The certificate of {address} has the fingerprint {seen}, but the settings expect "
            "{expected}.",
            address=config.address,
            seen=display_fingerprint(seen),
            expected=display_fingerprint(config.fingerprint),
        ),
        say(
            "Nothing was sent. If the worker was given a new certificate, compare this fingerprint "
            "with the one in the worker's log and put it into the settings; otherwise, another "
            "program may be posing as the worker."
        ),
    )


def _not_trusted(
    config: WorkerConfig,
    error: aiohttp.ClientConnectorCertificateError,
    certificate: bytes | None,
) -> WorkerError:
    message = say(
        "The certificate of {address} is not trusted on this machine: {why}.",
        address=config.address,
        why=printable(
            getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        ),
    )
    authority = say(
        "Use a certificate that a known authority has issued for this host name, or set the "
        "environment variable SSL_CERT_FILE of ComfyUI to the certificate's file."
    )
    if certificate is None:
        return WorkerError(message, authority)
    return WorkerError(
        message,
        say(
            "If the worker made its certificate itself, compare the fingerprint {seen} with the "
            "one in the worker's log, and put it into the settings if they are equal. {otherwise}",
            seen=display_fingerprint(hashlib.sha256(certificate).hexdigest()),
            otherwise=authority,
        ),
    )


async def _certificate_at(config: WorkerConfig) -> bytes | None:
    """The certificate (DER) that is shown at the address; ``None`` if there is no TLS."""
    trust_anyone = ssl.create_default_context()
    trust_anyone.check_hostname, trust_anyone.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await asyncio.wait_for(
            asyncio.open_connection(config.endpoint.host, config.endpoint.port, ssl=trust_anyone),
            _PROBE_SECONDS,
        )
    except (OSError, asyncio.TimeoutError, ValueError):
        return None
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), _PROBE_SECONDS)
    return shown
