"""The worker's HTTP pages: their answers, the host names that it accepts, and its shutdown."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.texts import WorkerError
from comfy_node.wire import WireTensor
from comfy_node.worker.client import WorkerClient
from comfy_node.worker.errors import NoWorker
from real_worker import RealWorker, command, to_wire

TIMEOUT = 60
GRACE = 2.0


def ask(
    worker: RealWorker, method: str, path: str, host: str | None = None
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body."""
    connection = http.client.HTTPConnection(worker.address, timeout=TIMEOUT)
    try:
        connection.request(method, path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/health?x=1", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/metrics?x", 200),
        ("POST", "/health", 405),
        ("OPTIONS", "/metrics", 405),
        ("GET", "//health", 404),
        ("GET", "/elsewhere", 404),
    ],
)
def test_every_route(worker: RealWorker, method: str, path: str, status: int) -> None:
    got, headers, body = ask(worker, method, path)
    assert got == status
    assert (body == "") == (method == "HEAD")
    assert int(headers["content-length"]) > 0
    assert (headers.get("allow") == "GET, HEAD") == (status == 405)


@pytest.fixture(scope="module")
def named(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWorker]:
    """A worker that was started with host names of its own."""
    log = tmp_path_factory.mktemp("named") / "log"
    with RealWorker(
        tiny / "diffusers", log, device="cpu", allowed_host="gpu-box,worker.example"
    ) as worker:
        yield worker


@pytest.mark.parametrize("path", ["/health", "/metrics"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        (None, 200),
        ("localhost:7867", 200),
        ("[::1]", 200),
        ("192.168.0.9", 200),
        ("gpu-box", 200),
        ("WORKER.example:1", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
    ],
)
def test_only_names_that_are_ours(
    named: RealWorker, path: str, host: str | None, status: int
) -> None:
    got, _, body = ask(named, "GET", path, host)
    assert got == status
    assert ("--allowed-host" in body) == (status == 403)


def test_a_name_that_nobody_told(worker: RealWorker) -> None:
    assert ask(worker, "GET", "/health", "gpu-box")[0] == 403


@contextmanager
def answers(head: str) -> Iterator[str]:
    """The address of a server that answers every request with the same head."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(head.encode() + b"\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("head", "kind", "words"),
    [
        ("HTTP/1.1 403 Forbidden", WorkerError, "refuses the connection (HTTP status 403)"),
        ("HTTP/1.1 503 Service Unavailable", NoWorker, "is shutting down"),
        ("HTTP/1.1 404 Not Found", WorkerError, "with the path /ws (HTTP status 404)"),
    ],
)
def test_what_a_node_says_of_a_refused_handshake(
    head: str, kind: type[Exception], words: str
) -> None:
    with answers(head) as address:
        client = WorkerClient(WorkerConfig(url=f"ws://{address}/ws"))
        try:
            with pytest.raises(kind) as caught:
                client.connect().result(TIMEOUT)
        finally:
            client.close()
    assert words in caught.value.message
    if "403" in head:
        assert "--allowed-host" in caught.value.hint


def large_decode() -> list[WireTensor]:
    """A decode that takes a CPU much longer than the grace period."""
    return [to_wire("latent", torch.zeros(8, 16, 128, 128))]


def busy(worker: RealWorker):
    """A decode job that is running on the device."""
    started = threading.Event()

    def note(event: object) -> None:
        if isinstance(event, wire.Started):
            started.set()

    future = worker.client.submit(wire.DecodeRequest(), large_decode(), note)
    assert started.wait(TIMEOUT)
    return future


def test_a_long_operation_has_the_grace_period(tiny: Path, tmp_path: Path) -> None:
    with RealWorker(tiny / "diffusers", tmp_path / "log", device="cpu", grace=GRACE) as worker:
        future = busy(worker)
        begun = time.monotonic()
        worker.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        status, _, body = ask(worker, "GET", "/health")
        assert (status, json.loads(body)["status"]) == (503, "stopping")
        assert worker.process.wait(TIMEOUT) == 0
        assert GRACE - 0.5 <= time.monotonic() - begun < GRACE + 10
        assert "code=shutting-down" in worker.log.read_text()
        # The node's client was told the reason, and waits for the worker to answer again.
        assert not future.done()
        future.cancel()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(tiny: Path, tmp_path: Path, second: signal.Signals) -> None:
    with RealWorker(tiny / "diffusers", tmp_path / "log", device="cpu") as worker:
        future = busy(worker)
        worker.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert worker.process.poll() is None
        begun = time.monotonic()
        worker.process.send_signal(second)
        assert worker.process.wait(TIMEOUT) == 128 + second
        assert time.monotonic() - begun < 2
        future.cancel()


@pytest.mark.parametrize("grace", ["-1", "nan", "soon", "1e9"])
def test_a_grace_period_that_is_none(grace: str) -> None:
    result = command("serve", **{"grace=" + grace: True})
    assert result.returncode == 2
    assert "number of seconds" in result.stderr
