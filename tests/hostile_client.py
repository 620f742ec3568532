"""A client that sends any bytes, over a websocket or a bare socket."""

from __future__ import annotations

import asyncio
import base64
import os
import socket

import aiohttp

from comfy_node import wire
from mutations import golden
from real_worker import RealWorker

HELLO = golden("client")["client-hello.bin"]
SECONDS = 20
"""How long anything may take."""


class Raw:
    """A websocket whose client sends any bytes. Use it as an asynchronous context manager."""

    def __init__(self, worker: RealWorker, *, says_hello: bool = True) -> None:
        self._url = worker.config.endpoint.socket_url
        self._says_hello = says_hello

    async def __aenter__(self) -> Raw:
        self._session = aiohttp.ClientSession()
        try:
            self.socket = await self._session.ws_connect(
                self._url, max_msg_size=wire.MAX_MESSAGE_BYTES, compress=0
            )
            if self._says_hello:
                await self.socket.send_bytes(HELLO)
                assert isinstance(await self.receive(), wire.WorkerHello)
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()
        await self._session.close()

    async def receive(self) -> object | None:
        """The next message, or None when the connection has ended."""
        frame = await asyncio.wait_for(self.socket.receive(), SECONDS)
        return wire.decode_worker(frame.data) if frame.type is aiohttp.WSMsgType.BINARY else None

    async def send(self, *frames: bytes) -> None:
        for frame in frames:
            await self.socket.send_bytes(frame)

    async def until_end(self) -> list[object]:
        """What arrives until the connection ends."""
        messages = []
        while (message := await self.receive()) is not None:
            messages.append(message)
        return messages

    async def answer(self) -> object | None:
        """The next message but news of a job's place and progress."""
        while isinstance(message := await self.receive(), wire.Queued | wire.Started):
            pass
        return message


def upgrade(raw: socket.socket, worker: RealWorker) -> None:
    """Makes a TCP connection a websocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        "GET / HTTP/1.1",
        f"Host: {worker.address}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    )
    raw.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += raw.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101")
