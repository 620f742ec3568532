"""Other programs at a worker's address, over HTTP or TLS or silent: one sentence for each."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import subprocess

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.texts import WorkerError
from comfy_node.worker.client import WorkerClient
from comfy_node.worker.errors import NoWorker
from comfy_node.worker.status import query_status
from test_client import TIMEOUT, client, free_port, quick, worker

FIXTURES = (client, quick, worker)  # pytest finds them by name
ENCODE = wire.EncodeRequest(["a"], 8)


@pytest.fixture(autouse=True)
def pace(quick):
    """Reconnects without delay."""


def answering(status: int, text: str):
    """A handler that always gives this answer."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    return answer


def failure_at(handler, path: str = "/ws") -> WorkerError:
    """The client's error if ``handler`` answers every request."""

    async def ask() -> WorkerError:
        app = web.Application()
        app.router.add_route("*", "/{all:.*}", handler)
        async with TestServer(app) as server:
            client = WorkerClient(WorkerConfig(url=f"ws://127.0.0.1:{server.port}{path}"))
            try:
                await asyncio.wrap_future(client.submit(ENCODE))
            except WorkerError as error:
                return error
            finally:
                await asyncio.to_thread(client.close)
        raise AssertionError("it was taken for a worker")

    return asyncio.run(asyncio.wait_for(ask(), TIMEOUT))


@pytest.mark.parametrize(
    ("status", "text", "said", "kind"),
    [
        (200, "a page", "Another program answers at HOST (HTTP status 200)", WorkerError),
        (404, "", "with the path /ws (HTTP status 404)", WorkerError),
        (400, "", "does not accept a websocket (HTTP status 400)", WorkerError),
        (426, "", "does not accept a websocket (HTTP status 426)", WorkerError),
        (302, "", "such as a login page (HTTP status 302)", WorkerError),
        (407, "", "asks for a login", WorkerError),
        (500, "", "Another program answers at HOST (HTTP status 500)", WorkerError),
        (
            403,
            "The host `x` is none of this worker's.",
            "refused the request: The host `x`",
            WorkerError,
        ),
        (403, "", "refuses the connection (HTTP status 403)", WorkerError),
        (401, "", "asks for a login", WorkerError),
        (502, "", "a proxy answers with HTTP status 502", NoWorker),
        (
            503,
            "",
            "it is shutting down, or a proxy reports it as unavailable (HTTP status 503)",
            NoWorker,
        ),
    ],
)
def test_what_answers_over_http(status, text, said, kind):
    error = failure_at(answering(status, text))
    message = re.sub(r"127\.0\.0\.1:\d+", "HOST", error.message)
    assert said in message and type(error) is kind and error.hint


def test_a_login_page_is_one_and_not_another_program():
    async def lead(request: web.Request) -> web.Response:
        if request.path == "/ws":
            raise web.HTTPFound("/login?next=/ws")
        return web.Response(text="Log in, please.")

    error = failure_at(lead)
    assert "such as a login page" in error.message and "USER:PASSWORD" in error.hint


def test_where_a_proxy_passes_no_upgrade_on_its_setting_is_named():
    assert "proxy_set_header Upgrade" in failure_at(answering(426, "")).hint


@pytest.mark.parametrize(
    ("status", "state"), [(502, "away"), (503, "away"), (302, "other"), (401, "other")]
)
def test_the_status_of_a_worker_behind_a_proxy(status, state):
    async def ask() -> None:
        app = web.Application()
        app.router.add_route("*", "/{all:.*}", answering(status, "<html>"))
        async with TestServer(app) as server:
            found = await query_status(WorkerConfig(url=f"ws://127.0.0.1:{server.port}"))
        assert (found.state, str(status) in found.problem.message) == (state, True)

    asyncio.run(asyncio.wait_for(ask(), TIMEOUT))


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> ssl.SSLContext:
    """A TLS server context with a self-signed certificate."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl here")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = f"{program} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *files], capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def failure_with_tls(context: ssl.SSLContext, scheme: str) -> WorkerError:
    """The errors of the client and of the status if a server uses TLS."""

    async def ask() -> WorkerError:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        config = WorkerConfig(url=f"{scheme}://127.0.0.1:{port}/ws?key=s3cret", binary="/none")
        client = WorkerClient(config)
        try:
            await asyncio.wrap_future(client.submit(ENCODE))
        except WorkerError as error:
            if scheme == "wss":
                assert (await query_status(config)).problem.message == error.message
            return error
        finally:
            await asyncio.to_thread(client.close)
            server.close()
        raise AssertionError("it was taken for a worker")

    return asyncio.run(asyncio.wait_for(ask(), TIMEOUT))


def test_a_certificate_of_its_own_is_named_as_the_trouble(certificate):
    error = failure_with_tls(certificate, "wss")
    assert "certificate of 127.0.0.1" in error.message and "self" in error.message
    assert "SSL_CERT_FILE" in error.hint and "serve" not in error.hint
    assert "s3cret" not in str(error)


def test_a_plain_address_of_a_port_with_tls(certificate):
    error = failure_with_tls(certificate, "ws")
    assert "accepts only TLS connections" in error.message and "wss://127.0.0.1:" in error.hint
    assert "s3cret" not in str(error)


def test_an_address_with_tls_of_a_plain_worker(worker):
    client = WorkerClient(WorkerConfig(url=worker.url.replace("ws:", "wss:"), binary="/none"))
    with pytest.raises(WorkerError, match="does not use TLS") as caught:
        client.submit(ENCODE).result(TIMEOUT)
    assert f"ws://127.0.0.1:{worker.port}" in caught.value.hint
    client.close()


def test_a_socket_that_closes_before_its_hello_is_away():
    async def close(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close()
        return socket

    error = failure_at(close)
    assert (
        isinstance(error, NoWorker)
        and "closed the connection before it sent its hello" in error.message
    )


def test_a_login_goes_to_the_proxy_and_nowhere_else():
    seen: list[str | None] = []

    async def look(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=404)

    async def ask() -> WorkerError:
        app = web.Application()
        app.router.add_route("*", "/{all:.*}", look)
        async with TestServer(app) as server:
            config = WorkerConfig(url=f"http://us%65r:p%40ss@127.0.0.1:{server.port}")
            client = WorkerClient(config)
            with pytest.raises(WorkerError) as caught:
                await asyncio.wrap_future(client.submit(ENCODE))
            await asyncio.to_thread(client.close)
        assert "p@ss" not in repr(config) + repr(caught.value) + config.url
        return caught.value

    asyncio.run(asyncio.wait_for(ask(), TIMEOUT))
    assert seen == ["Basic dXNlcjpwQHNz"]


def test_nothing_at_all_at_the_address():
    client = WorkerClient(WorkerConfig(url=f"wss://user:hidden@127.0.0.1:{free_port()}"))
    with pytest.raises(NoWorker) as caught:
        client.submit(ENCODE).result(TIMEOUT)
    assert "hidden" not in str(caught.value) + repr(caught.value)
    client.close()
