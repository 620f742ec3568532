"""A client that speaks the protocol and nothing else: no reconnection, no names of its own.

The load needs hundreds of clients on one event loop, and the tests of restarts want to see every
message, so neither can use the node pack's client.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence

import aiohttp

from comfy_node import wire
from comfy_node.wire import WireTensor, transfer


class ConnectionEnded(Exception):
    """The worker closed the connection, or it was lost."""


class JobFailed(Exception):
    """The worker refused or failed a job, or refused the connection."""

    def __init__(self, error: wire.WireError) -> None:
        super().__init__(f"{error.code.name}: {error.message} {error.hint}".strip())
        self.error = error


class WireClient:
    """One connection, after the hellos. Use it as an asynchronous context manager."""

    def __init__(
        self, url: str, name: str, secret: bytes | None = None, token: str | None = None
    ) -> None:
        self._url = url
        self._name = name
        self._secret = secret
        self._token = token

    async def __aenter__(self) -> WireClient:
        self._session = aiohttp.ClientSession()
        try:
            self._socket = await self._session.ws_connect(
                self._url, max_msg_size=wire.MAX_MESSAGE_BYTES, compress=0
            )
            hello = wire.ClientHello(
                wire.MAGIC, wire.PROTOCOL_VERSION, self._name, self._token, self._secret
            )
            await self.send(hello)
            self.hello: wire.WorkerHello = await self.receive()
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()
        await self._session.close()

    async def send(self, message: object) -> None:
        """Sends one message."""
        try:
            await self._socket.send_bytes(wire.encode_client(message))
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionEnded(str(error)) from error

    async def submit(self, request: object, tensors: Sequence[WireTensor] = ()) -> bytes:
        """Submits a job with its tensors; returns its UUID."""
        job = uuid.uuid4().bytes
        await self.send(wire.Submit(job, request, [tensor.header for tensor in tensors]))
        for chunk in transfer.chunks(job, tensors):
            await self.send(chunk)
        return job

    async def receive(self) -> object:
        """The next message; pings are answered meanwhile.

        Raises :class:`ConnectionEnded`, or :class:`JobFailed` for ``Refused`` and ``Failed``.
        """
        frame = await self._socket.receive()
        if frame.type is not aiohttp.WSMsgType.BINARY:
            raise ConnectionEnded(f"{frame.type.name} {frame.data}")
        message = wire.decode_worker(frame.data)
        if isinstance(message, wire.Refused | wire.Failed):
            raise JobFailed(message.error)
        return message

    async def until_done(self, job: bytes) -> AsyncIterator[object]:
        """The job's messages up to its last chunk; it is acknowledged then.

        The last item is the list of the result's tensors.
        """
        assembler: transfer.Assembler | None = None
        while assembler is None or not assembler.complete:
            message = await self.receive()
            if getattr(message, "job", None) != job:
                continue
            if isinstance(message, wire.Done):
                assembler = transfer.Assembler(message.tensors)
            elif isinstance(message, wire.Chunk):
                assembler.push(message)
            yield message
        await self.send(wire.Acknowledge(job))
        yield assembler.finish()

    async def run(self, request: object, tensors: Sequence[WireTensor] = ()) -> list[WireTensor]:
        """Runs a job to its end and returns its tensors."""
        job = await self.submit(request, tensors)
        result: object = None
        async for result in self.until_done(job):  # noqa: B007 (the last item is the result)
            pass
        return result
