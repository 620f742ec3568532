"""Explains what is wrong if something other than a worker answers at a worker's address."""

from __future__ import annotations

from ..settings.config import WorkerConfig
from ..texts import WorkerError, printable, say
from .errors import NoWorker

_AWAY = (502, 503, 504)
"""HTTP statuses by which a proxy reports that the worker behind it does not answer."""
_UNAVAILABLE = 503
_TOO_MANY = 429
_LOGINS = (401, 407)
_NO_UPGRADE = (400, 426)
_REDIRECTS = range(300, 400)

OTHER_PROGRAM = say("Correct the address, or give the worker another port with --listen.")


def no_answer(config: WorkerConfig, why: str) -> NoWorker:
    """The error for an address at which nothing answers for now."""
    return NoWorker(
        say("No ovis-worker answers at {address}: {why}.", address=config.address, why=why)
    )


def from_http_status(
    config: WorkerConfig,
    status: int,
    *,
    redirected: bool = False,
    retry_after: float | None = None,
) -> WorkerError:
    """The error for an HTTP answer that opens no websocket, or is not a worker's page.

    ``redirected``: the first answer redirected to the one that has this status. ``retry_after``:
    the seconds after which the answer asks to try again.
    """
    about = {"address": config.address, "status": status}
    with_login = say("Write the address with its login: wss://USER:PASSWORD@HOST:PORT")
    if status == _TOO_MANY or (status == _UNAVAILABLE and retry_after is not None):
        return WorkerError(
            say("{address} asks to try again later (HTTP status {status}).", **about),
            say("Run the workflow again when fewer jobs are waiting there."),
            retry_after=retry_after,
        )
    if status in _AWAY:
        # A worker that is stopping answers with 503 too.
        why = (
            say("it is shutting down, or a proxy reports it as unavailable (HTTP status 503)")
            if status == _UNAVAILABLE
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
