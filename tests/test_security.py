"""A worker that others can reach: encryption, tokens, roles, and what is refused.

`SECURITY.md` names these tests.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest

from border_cli import refusal, worker_command
from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.worker.status import query_status
from guarded_worker import (
    TIMEOUT,
    TOKENS,
    Guarded,
    received,
    seconds_until_closed,
    tokens_text,
    write_tokens,
)

HANDSHAKE_SECONDS = 10
UNKNOWN_JOB = "/jobs/123e4567-e89b-42d3-a456-426614174000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture(scope="module")
def guarded(tiny: Path, folder: Path) -> Iterator[Guarded]:
    """A worker with TLS and a file of tokens."""
    write_tokens(folder / "tokens", tokens_text())
    with Guarded(
        tiny / "diffusers", folder, tls="on", tls_dir=folder / "tls", tokens=folder / "tokens",
        env={"OVIS_WORKER_LOG": "trace"},
    ) as worker:  # fmt: skip
        yield worker


@pytest.fixture
def restored(folder: Path, guarded: Guarded) -> Iterator[Path]:
    """The file of tokens, which a test may change."""
    yield folder / "tokens"
    write_tokens(folder / "tokens", tokens_text())
    ask = lambda: guarded.ask("GET", "/jobs", TOKENS["watcher"])[0]  # noqa: E731
    guarded.wait_until(lambda: ask() == 200, "the restored tokens")


# Encryption


def test_a_pinned_certificate_is_the_only_one_accepted(guarded: Guarded) -> None:
    assert isinstance(guarded.greet(TOKENS["user"]), wire.WorkerHello)
    wrong = guarded.pin("00:" * 31 + "00")
    with pytest.raises(aiohttp.ServerFingerprintMismatch):
        guarded.greet(TOKENS["user"], pin=wrong)
    # Nobody vouches for it.
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        guarded.greet(TOKENS["user"], pin=True)


def test_the_certificate_is_kept_private_and_stays(
    tiny: Path, folder: Path, guarded: Guarded, tmp_path: Path
) -> None:
    file = folder / "tls" / "self-made.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (folder / "tls").stat().st_mode & 0o777 == 0o700
    # It names every address of the worker, for clients that trust it instead of pinning it.
    trusting = ssl.create_default_context(cafile=str(file))
    assert isinstance(guarded.greet(TOKENS["user"], pin=trusting), wire.WorkerHello)
    # A state folder of this user is the default place.
    env = {"XDG_STATE_HOME": str(tmp_path / "state"), "OVIS_WORKER_TOKEN": "s3cret"}
    prints = []
    for _ in range(2):
        with Guarded(tiny / "diffusers", tmp_path, tls="on", env=env) as worker:
            assert isinstance(worker.greet("s3cret"), wire.WorkerHello)
            prints.append(worker.fingerprint)
    assert prints[0] == prints[1] != guarded.fingerprint
    assert (tmp_path / "state/ovis-worker/tls/self-made.pem").is_file()
    openssl = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(file)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert openssl.stdout.strip().endswith(f"={guarded.fingerprint}")


def issue(folder: Path) -> None:
    """Writes a certificate and its key."""
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
            "-subj", "/CN=gpu-box", "-addext", "subjectAltName=DNS:gpu-box,IP:127.0.0.2",
            "-keyout", str(folder / "key"), "-out", str(folder / "cert")]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)


def test_the_operators_certificate_is_used(tiny: Path, tmp_path: Path) -> None:
    issue(tmp_path)
    files = {"tls_cert": tmp_path / "cert", "tls_key": tmp_path / "key"}
    # A given certificate is used on a loopback address too.
    with Guarded(tiny / "diffusers", tmp_path, token="s3cret", **files) as worker:
        trusting = ssl.create_default_context(cafile=str(tmp_path / "cert"))
        assert isinstance(worker.greet("s3cret", pin=trusting), wire.WorkerHello)
        issue(tmp_path)
        worker.wait_for_log("certificate read again")
        renewed = ssl.create_default_context(cafile=str(tmp_path / "cert"))
        assert isinstance(worker.greet("s3cret", pin=renewed), wire.WorkerHello)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            worker.greet("s3cret", pin=trusting)
    other = tmp_path / "other"
    other.write_text("nothing")
    serve = {"model": tiny / "diffusers", "device": "cpu", "listen": "127.0.0.2:0"}
    for wrong, words in [
        ({**files, "tls_cert": other}, "has no certificate"),
        ({**files, "tls_key": other}, "has no private key"),
        ({**files, "tls_key": tmp_path / "missing"}, "cannot be read"),
        ({**files, "tls": "off"}, "--tls off is given with a certificate"),
        ({"tls": "on", "tls_dir": other / "tls"}, "cannot be"),
    ]:
        assert words in refusal(worker_command("serve", **wrong, **serve)), wrong
    assert worker_command("serve", **serve, tls_cert=other).returncode == 2


def test_a_client_without_tls_is_told_and_the_reverse_is_not_kept_waiting(
    guarded: Guarded, worker
) -> None:
    with guarded.socket() as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = plain.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 400 ") and "This port speaks TLS" in answer
    host, port = worker.address.split(":")
    begun = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as stream:
        context = ssl._create_unverified_context()
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(stream, server_hostname="localhost")
    assert time.monotonic() - begun < HANDSHAKE_SECONDS / 2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_present_versions_of_tls(guarded: Guarded, version: ssl.TLSVersion) -> None:
    context = ssl._create_unverified_context()
    context.minimum_version = context.maximum_version = version
    with context.wrap_socket(guarded.socket(), server_hostname="localhost") as stream:
        assert stream.version() == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_old_version_of_tls(guarded: Guarded) -> None:
    context = ssl._create_unverified_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="_ALERT_"):
        context.wrap_socket(guarded.socket(), server_hostname="localhost")


# Doors


def test_what_other_machines_reach_is_closed(tiny: Path, tmp_path: Path) -> None:
    serve = {"model": tiny / "diffusers", "device": "cpu", "listen": "0.0.0.0:0"}
    assert "there is no token" in refusal(worker_command("serve", **serve))
    off = worker_command("serve", **serve, tls="off", token="s3cret-s3cret")
    assert "with --tls off the network can read the token" in refusal(off)
    assert "s3cret" not in off.stderr
    values = {"listen": "0.0.0.0", "host": "127.0.0.1", "token": "s3cret"}
    with Guarded(tiny / "diffusers", tmp_path, tls_dir=tmp_path / "tls", **values) as worker:
        assert worker.fingerprint
        assert isinstance(worker.greet("s3cret"), wire.WorkerHello)
        assert isinstance(worker.greet(), wire.Refused)
    with Guarded(tiny / "diffusers", tmp_path, insecure=True, **values) as worker:
        assert worker.fingerprint is None
        assert "connections are not encrypted" in worker.log
        assert isinstance(worker.greet(), wire.Refused)


def test_a_generated_token_is_printed_once_and_never_logged(tiny: Path, tmp_path: Path) -> None:
    env = {"OVIS_WORKER_LOG": "trace"}
    with Guarded(tiny / "diffusers", tmp_path, token="generate", env=env) as worker:
        (token,) = worker.stdout.read_text().splitlines()
        assert len(token) == 32
        assert isinstance(worker.greet(token), wire.WorkerHello)
        for wrong in ("generate", token[:-1], token.swapcase()):
            assert worker.greet(wrong).error.code is wire.ErrorCode.UNAUTHORIZED
        assert worker.ask("GET", "/health", token)[0] == 200
    assert token not in worker.log
    with Guarded(tiny / "diffusers", tmp_path, token="generate") as worker:
        assert worker.stdout.read_text().strip() != token


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("user submit s3cret\n", 0o644, "chmod 600"),
        ("user submit s3cret\nuser s3cret\n", 0o600, "line 2 "),
        ("user write s3cret\n", 0o600, "roles are one or more of submit, observe"),
        ("# s3cret\n", 0o600, "has no token"),
        (None, 0o600, "cannot be read"),
    ],
)
def test_a_file_of_tokens_that_cannot_be_used(
    tiny: Path, tmp_path: Path, text: str | None, mode: int, words: str
) -> None:
    path = tmp_path / "tokens"
    if text is not None:
        write_tokens(path, text, mode)
    serve = {"model": tiny / "diffusers", "device": "cpu", "listen": "127.0.0.1:0"}
    result = worker_command("serve", tokens=path, **serve)
    refusal(result)
    assert words in result.stderr and "s3cret" not in result.stderr
    both = worker_command("serve", tokens=path, token="s3cret", **serve)
    assert refusal(both) and "s3cret" not in both.stderr


# Tokens and roles


@pytest.mark.parametrize("token", [None, "", "user-s3cret-", "user-s3cret-1 ", "x" * 100_000])
def test_a_wrong_token_is_refused(guarded: Guarded, token: str | None) -> None:
    answer = guarded.greet(token)
    assert isinstance(answer, wire.Refused)
    assert answer.error.code is wire.ErrorCode.UNAUTHORIZED
    if token is not None and len(token) < 1000:
        assert guarded.ask("GET", "/health", token.strip() + "x")[0] == 401
    assert guarded.ask("GET", "/health")[0] == 401


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("GET", "/healthz", (200, 200, 200, 200)),
        ("GET", "/readyz", (200, 200, 200, 200)),
        ("GET", "/health", (401, 403, 200, 200)),
        ("GET", "/metrics", (401, 403, 200, 200)),
        ("GET", "/jobs", (401, 403, 200, 200)),
        ("DELETE", UNKNOWN_JOB, (401, 403, 403, 404)),
    ],
)
def test_every_route_has_its_role(
    guarded: Guarded, method: str, path: str, statuses: tuple[int, ...]
) -> None:
    for name, status in zip((None, "user", "watcher", "boss"), statuses, strict=True):
        got, headers, _ = guarded.ask(method, path, name and TOKENS[name])
        assert got == status, name
        assert ("www-authenticate" in headers) == (status in (401, 403))


def a_job() -> tuple[bytes, bytes]:
    """The id of an encode job, and its submission."""
    job = uuid.uuid4().bytes
    request = wire.EncodeRequest(["a"], 8)
    return job, bytes(wire.encode_client(wire.Submit(job, request, [])))


def test_roles_hold_for_messages(guarded: Guarded) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            watcher = await guarded.connect(session, TOKENS["watcher"])
            assert isinstance(await received(watcher), wire.WorkerHello)
            job, submit = a_job()
            await watcher.send_bytes(submit)
            answer = await received(watcher)
            assert isinstance(answer, wire.Failed) and answer.job == job
            assert answer.error.code is wire.ErrorCode.FORBIDDEN
            await watcher.send_bytes(bytes(wire.encode_client(wire.StatusRequest())))
            assert isinstance(await received(watcher), wire.Status)
            for name in ("user", "boss"):
                client = await guarded.connect(session, TOKENS[name])
                assert isinstance(await received(client), wire.WorkerHello)
                await client.send_bytes(a_job()[1])
                while not isinstance(await received(client), wire.Done):
                    pass

    asyncio.run(run())


def test_the_sidebar_sees_a_worker_with_a_token(tiny: Path, tmp_path: Path) -> None:
    with Guarded(tiny / "diffusers", tmp_path, token="s3cret ☂") as worker:
        url = f"ws://{worker.host}:{worker.port}"
        for token, state in (("s3cret ☂", "ready"), ("wrong", "other"), (None, "other")):
            status = asyncio.run(query_status(WorkerConfig(url=url, token=token), may_act=False))
            assert status.state == state, (token, status)
            assert "s3cret" not in repr(status)


def test_a_rotated_token_counts_at_once_and_ends_its_connections(
    guarded: Guarded, restored: Path
) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            user = await guarded.connect(session, TOKENS["user"])
            boss = await guarded.connect(session, TOKENS["boss"])
            for client in (user, boss):
                assert isinstance(await received(client), wire.WorkerHello)
            write_tokens(restored, "broken\n")
            guarded.wait_for_log("the tokens stay as they were")
            write_tokens(restored, tokens_text({**TOKENS, "user": "user-s3cret-2"}))
            answer = await received(user)
            assert isinstance(answer, wire.Refused)
            assert answer.error.code is wire.ErrorCode.UNAUTHORIZED
            assert "removed or changed" in answer.error.message
            await boss.send_bytes(bytes(wire.encode_client(wire.StatusRequest())))
            assert isinstance(await received(boss), wire.Status)

    asyncio.run(run())
    assert isinstance(guarded.greet(TOKENS["user"]), wire.Refused)
    assert isinstance(guarded.greet("user-s3cret-2"), wire.WorkerHello)


def test_an_operator_drains_a_worker(tiny: Path, tmp_path: Path) -> None:
    with Guarded(tiny / "diffusers", tmp_path, token="s3cret") as worker:
        assert worker.ask("POST", "/drain")[0] == 401
        assert worker.ask("POST", "/drain", "s3cret", Origin="http://localhost")[0] == 403
        assert worker.ask("GET", "/readyz")[0] == 200
        status, _, body = worker.ask("POST", "/drain", "s3cret")
        assert (status, json.loads(body)["status"]) == (200, "draining")
        assert worker.ask("GET", "/readyz")[0] == 503
        assert worker.ask("GET", "/healthz")[0] == 200
        assert isinstance(worker.greet("s3cret"), wire.WorkerHello)
    assert worker.process.returncode == 0


# Neighbours


def own_address() -> str | None:
    """An address of this machine that is not loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses the source address; nothing is sent.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else address


def test_an_address_that_guesses_is_kept_out(tiny: Path, tmp_path: Path) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has only loopback addresses")
    env = {"OVIS_WORKER_TOKEN": "s3cret"}
    with Guarded(
        tiny / "diffusers", tmp_path, listen="0.0.0.0", host=address, tls_dir=tmp_path / "tls",
        env=env,
    ) as worker:  # fmt: skip
        for guess in range(5):
            assert worker.ask("GET", "/health", f"wr0ng {guess}")[0] == 401
            assert isinstance(worker.greet(f"wr0ng {guess}"), wire.Refused)
        status, headers, body = worker.ask("GET", "/health", "s3cret")
        assert status == 429 and 1 <= int(headers["retry-after"]) <= 60, body
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            worker.greet("s3cret")
        assert caught.value.status == 429
        # This machine's own programs are never kept out.
        worker.host = "127.0.0.1"
        assert worker.ask("GET", "/health", "s3cret")[0] == 200
        for guess in range(12):
            assert worker.ask("GET", "/health", f"wr0ng {guess}")[0] == 401
        assert isinstance(worker.greet("s3cret"), wire.WorkerHello)
    assert "s3cret" not in worker.log and "wr0ng" not in worker.log


def test_foreign_pages_and_hosts_are_refused_in_tls(guarded: Guarded) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            guarded.greet(TOKENS["user"], **headers)
        assert caught.value.status == 403
    for path in ("/healthz", "/health", "/nowhere"):
        assert guarded.ask("GET", path, TOKENS["boss"], Host="evil.example")[0] == 403


def test_slow_clients_are_dropped_in_time_and_nobody_waits(guarded: Guarded, worker) -> None:
    """Slowloris before TLS, within its handshake, in a request's head, and instead of a hello."""
    insecure = ssl._create_unverified_context()
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    def encrypted() -> ssl.SSLSocket:
        return insecure.wrap_socket(guarded.socket(), server_hostname="localhost")

    def begun(stream: socket.socket, first: bytes) -> socket.socket:
        stream.sendall(first)
        return stream

    host, port = worker.address.split(":")
    plain = socket.create_connection((host, int(port)), timeout=TIMEOUT)
    slow = [
        (guarded.socket(), b""),
        (begun(guarded.socket(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), b"\0"),
        (begun(plain, b"GET /health HTTP/1.1\r\nHost: localhost\r\n"), b"X: y\r\n"),
        (begun(encrypted(), b"GET /health HTTP/1.1\r\nHost: localhost\r\n"), b"X: y\r\n"),
        (begun(encrypted(), b"POST /drain HTTP/1.1\r\nContent-Length: 9999\r\n"), b"y"),
        # A masked binary frame of 1000 bytes, of which one comes at a time.
        (begun(encrypted(), upgrade + b"\x82\xfe\x03\xe8\0\0\0\0"), b"\0"),
    ]
    with ThreadPoolExecutor(len(slow)) as pool:
        ends = [pool.submit(seconds_until_closed, *pair) for pair in slow]
        answered = []
        while not all(end.done() for end in ends):
            before = time.monotonic()
            assert guarded.ask("GET", "/healthz")[0] == 200
            answered.append(time.monotonic() - before)
            time.sleep(0.2)
        seconds = [end.result() for end in ends]
    for connection, _ in slow:
        connection.close()
    assert max(seconds) < HANDSHAKE_SECONDS + 5, seconds
    assert max(answered) < 2, answered


def test_no_level_of_the_log_shows_a_token(guarded: Guarded, folder: Path) -> None:
    """The last test of the worker whose log has every line."""
    guarded.greet(TOKENS["user"])
    guarded.greet("another-s3cret")
    assert guarded.ask("GET", "/jobs", TOKENS["watcher"])[0] == 200
    assert guarded.ask("GET", "/jobs", "another-s3cret")[0] == 401
    log = guarded.log
    # Names are there, tokens are not.
    assert "token=user" in log and "s3cret" not in log
    assert ", ".join(str(byte) for byte in b"s3cret") not in log
    key = (folder / "tls" / "self-made.pem").read_text().split("PRIVATE KEY-----\n")[1][:40]
    assert key not in log
    assert guarded.stdout.read_text() == ""
