"""`serve` as an operator leaves it running: encrypted, with tokens, on any address."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import aiohttp

from comfy_node import wire
from real_worker import START_SECONDS, binary, flags
from worker_binary import stop

TOKENS = {
    "user": "user-s3cret-1",
    "watcher": "watcher-s3cret-1",
    "boss": "boss-s3cret-1",
}
ROLES = {"user": "submit", "watcher": "observe", "boss": "administer"}
TIMEOUT = 60


def tokens_text(tokens: dict[str, str] = TOKENS) -> str:
    """The file of tokens."""
    return "".join(f"{name} {ROLES[name]} {token}\n" for name, token in tokens.items())


def write_tokens(path: Path, text: str, mode: int = 0o600) -> None:
    """Replaces the file of tokens, as an editor does."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(mode)
    new.rename(path)


def free_port(host: str) -> int:
    with socket.socket() as listener:
        listener.bind((host, 0))
        return listener.getsockname()[1]


class Guarded:
    """A running `serve`; use it as a context manager."""

    def __init__(
        self,
        model: Path,
        folder: Path,
        *,
        listen: str = "127.0.0.2",
        host: str | None = None,
        env: dict[str, str] | None = None,
        **values: object,
    ) -> None:
        self.host = host or listen
        self.port = free_port(self.host)
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        arguments = flags(model=model, device="cpu", listen=f"{listen}:{self.port}", **values)
        self._command = [str(binary()), "serve", *arguments]
        self._environment = {**os.environ, **(env or {})}
        self.fingerprint: str | None = None

    def __enter__(self) -> Guarded:
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                self._command, stdout=out, stderr=err, env=self._environment
            )
        try:
            self.wait_for_log(" ready ")
        except BaseException:
            self.__exit__()
            raise
        found = re.search(r"fingerprint=([0-9A-F:]+)", self.log)
        self.fingerprint = found[1] if found else None
        return self

    def __exit__(self, *_: object) -> None:
        stop(self.process)

    @property
    def log(self) -> str:
        return self.stderr.read_text()

    def wait_for_log(self, words: str) -> None:
        self.wait_until(lambda: words in self.log, words)

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not holds():
            assert self.process.poll() is None, f"the worker ended:\n{self.log}"
            assert time.monotonic() < deadline, f"{what} never came:\n{self.log}"
            time.sleep(0.05)

    def pin(self, fingerprint: str | None = None) -> aiohttp.Fingerprint:
        """What a client accepts: this certificate and no other."""
        digits = fingerprint or self.fingerprint
        assert digits is not None, "the worker has no certificate"
        return aiohttp.Fingerprint(bytes.fromhex(digits.replace(":", "")))

    def socket(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=TIMEOUT)

    def ask(
        self,
        method: str,
        path: str,
        token: str | None = None,
        source: str | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of an HTTP request."""
        arguments = (self.host, self.port)
        origin = (source, 0) if source else None
        if self.fingerprint:
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(
                *arguments, timeout=TIMEOUT, source_address=origin, context=context
            )
        else:
            connection = http.client.HTTPConnection(
                *arguments, timeout=TIMEOUT, source_address=origin
            )
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        with closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            given = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, given, answer.read().decode()

    async def connect(
        self,
        session: aiohttp.ClientSession,
        token: str | None = None,
        pin: object = None,
        **headers: str,
    ) -> aiohttp.ClientWebSocketResponse:
        """A websocket on which a hello was sent."""
        scheme = "wss" if self.fingerprint else "ws"
        trusted = pin if pin is not None else (self.pin() if self.fingerprint else True)
        socket = await session.ws_connect(
            f"{scheme}://{self.host}:{self.port}/", ssl=trusted, headers=headers
        )
        hello = wire.ClientHello(wire.MAGIC, wire.PROTOCOL_VERSION, "a test", token)
        await socket.send_bytes(bytes(wire.encode_client(hello)))
        return socket

    def greet(self, token: str | None = None, pin: object = None, **headers: str) -> object:
        """The worker's answer to a hello."""

        async def run() -> object:
            async with aiohttp.ClientSession() as session:
                socket = await self.connect(session, token, pin, **headers)
                return await received(socket)

        return asyncio.run(run())


async def received(socket: aiohttp.ClientWebSocketResponse) -> object:
    """The next message of the worker."""
    return wire.decode_worker(await socket.receive_bytes(timeout=TIMEOUT))


def seconds_until_closed(connection: socket.socket, drip: bytes) -> float:
    """How long the other side keeps a connection open that gets ``drip`` again and again."""
    begun = time.monotonic()
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(0.5):
            try:
                connection.sendall(drip)
            except OSError:
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    finally:
        ended.set()
        writer.join()
    return time.monotonic() - begun
