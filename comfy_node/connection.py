"""One socket to one worker, from its hello to its end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import aiohttp

from . import tensors as tensor_bytes
from . import wire
from .bincode import WireFormatError
from .errors import ConnectionLost, NoWorker, WorkerError
from .settings import WorkerConfig
from .tensors import WireTensor
from .texts import say

CLIENT_NAME = f"ovis-worker comfy_node 0.1.0 {secrets.token_hex(4)}"
"""Tells the worker this ComfyUI from others at the same address, so that they take turns."""

CONNECT_SECONDS = 10.0
HELLO_SECONDS = 15.0
HEARTBEAT_SECONDS = 60.0

_OTHER_PROGRAM = say(
    "Another program may be using the port; give the worker another one with --listen."
)

Event = wire.Queued | wire.Started | wire.Progress | wire.Preview
"""What a job reports while it runs."""


@dataclass
class JobResult:
    """A finished job's tensors by name, and what is worth saying beside them."""

    tensors: dict[str, WireTensor]
    outcome: wire.Outcome


@dataclass
class _Job:
    future: asyncio.Future[JobResult]
    on_event: Callable[[Event], None]
    outcome: wire.Outcome | None = None
    assembler: tensor_bytes.Assembler | None = None

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def finish_if_complete(self) -> None:
        if self.assembler.complete and not self.future.done():
            arrived = {tensor.header.name: tensor for tensor in self.assembler.finish()}
            self.future.set_result(JobResult(arrived, self.outcome))


@dataclass
class Connection:
    """An open socket whose hellos are exchanged. Lives on one event loop."""

    config: WorkerConfig
    session: aiohttp.ClientSession
    socket: aiohttp.ClientWebSocketResponse
    hello: wire.WorkerHello
    jobs: dict[bytes, _Job] = field(default_factory=dict)
    ended: bool = False
    reader: asyncio.Task | None = None

    @classmethod
    async def open(cls, config: WorkerConfig) -> Connection:
        """Connects and says hello.

        Raises :class:`NoWorker` when nothing answers, :class:`WorkerError` when
        the worker refuses or something else answers.
        """
        session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        )
        try:
            socket = await _open_socket(session, config)
            hello = await _exchange_hellos(socket, config)
        except BaseException:
            await session.close()
            raise
        connection = cls(config, session, socket, hello)
        connection.reader = asyncio.create_task(connection._read())
        return connection

    async def run(
        self,
        request: object,
        tensors: Sequence[WireTensor],
        on_event: Callable[[Event], None],
    ) -> JobResult:
        """Runs one job to its end; cancelling this cancels the job on the worker."""
        headers = [tensor.header for tensor in tensors]
        tensor_bytes.check_set(headers)
        name = uuid.uuid4().bytes
        job = _Job(asyncio.get_running_loop().create_future(), on_event)
        if self.ended:
            raise self._lost()
        self.jobs[name] = job
        sender = asyncio.create_task(self._send_job(name, job, request, headers, tensors))
        try:
            return await job.future
        except asyncio.CancelledError:
            sender.cancel()
            with contextlib.suppress(ConnectionError):
                await self._send(wire.Cancel(name))
            raise
        finally:
            sender.cancel()
            self.jobs.pop(name, None)

    async def close(self) -> None:
        """Ends the socket; unfinished jobs fail with :class:`ConnectionLost`."""
        self.ended = True
        await self.socket.close()
        await self.session.close()
        for job in self.jobs.values():
            job.fail(self._lost())

    async def _send(self, message: object) -> None:
        await self.socket.send_bytes(wire.encode_client(message))

    async def _send_job(
        self,
        name: bytes,
        job: _Job,
        request: object,
        headers: list[wire.TensorHeader],
        tensors: Sequence[WireTensor],
    ) -> None:
        try:
            await self._send(wire.Submit(name, request, headers))
            for chunk in tensor_bytes.chunks(name, tensors):
                if job.future.done():  # refused before its last byte
                    return
                await self._send(chunk)
        except WireFormatError as error:
            job.fail(WorkerError(say("The request cannot be sent: {why}.", why=error)))
        except ConnectionError:
            job.fail(self._lost())

    async def _read(self) -> None:
        problem: Exception | None = None
        try:
            async for frame in self.socket:
                if frame.type is not aiohttp.WSMsgType.BINARY:
                    raise WireFormatError(f"a {frame.type.name} frame came")
                problem = self._take(wire.decode_worker(frame.data)) or problem
        except WireFormatError as error:
            problem = WorkerError(
                say(
                    "The worker at {address} sent what is not a message: {why}.",
                    address=self.config.address,
                    why=error,
                )
            )
        finally:
            self.ended = True
            for job in list(self.jobs.values()):
                job.fail(problem or self._lost())
            await self.socket.close()
            await self.session.close()

    def _take(self, message: object) -> WorkerError | None:
        """Handles one message; returns the reason when it announces the end."""
        if isinstance(message, wire.Refused):
            return WorkerError.from_wire(message.error)
        if isinstance(message, wire.ShuttingDown):
            return WorkerError(
                say(
                    "The worker at {address} is shutting down: {why}",
                    address=self.config.address,
                    why=message.reason,
                ),
                say("Run the workflow again when it is back."),
                wire.ErrorCode.SHUTTING_DOWN,
            )
        job = self.jobs.get(getattr(message, "job", b""))
        if job is None:
            return None  # a cancelled job's last words
        if isinstance(message, Event):
            job.on_event(message)
        elif isinstance(message, wire.Done):
            job.outcome = message.outcome
            job.assembler = tensor_bytes.Assembler(message.tensors)
            job.finish_if_complete()
        elif isinstance(message, wire.Chunk):
            if job.assembler is None:
                raise WireFormatError("a chunk came before its job was done")
            job.assembler.push(message)
            job.finish_if_complete()
        elif isinstance(message, wire.Failed):
            job.fail(WorkerError.from_wire(message.error))
        elif isinstance(message, wire.Cancelled):
            job.fail(WorkerError(say("The worker dropped the job as if it had been cancelled.")))
        return None

    def _lost(self) -> ConnectionLost:
        return ConnectionLost(
            say(
                "The connection to the worker at {address} was lost during the job.",
                address=self.config.address,
            ),
            say("See the worker's log; if it ended by itself, its last lines say why."),
        )


async def _open_socket(
    session: aiohttp.ClientSession, config: WorkerConfig
) -> aiohttp.ClientWebSocketResponse:
    try:
        return await session.ws_connect(
            config.url,
            max_msg_size=wire.MAX_MESSAGE_BYTES,
            compress=0,
            heartbeat=HEARTBEAT_SECONDS,
        )
    except aiohttp.WSServerHandshakeError as error:
        if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise NoWorker(
                say("The worker at {address} is stopping.", address=config.address)
            ) from error
        if error.status == HTTPStatus.FORBIDDEN:
            raise WorkerError(
                say(
                    "The worker at {address} refuses to be reached by this host name.",
                    address=config.address,
                ),
                say("Start it with --allowed-host and the name, or use its IP address."),
            ) from error
        raise WorkerError(
            say(
                "What answers at {address} is not an ovis-worker (HTTP status {status}).",
                address=config.address,
                status=error.status,
            ),
            _OTHER_PROGRAM,
        ) from error
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
        why = say("it took too long") if isinstance(error, asyncio.TimeoutError) else error
        raise NoWorker(
            say("No ovis-worker answers at {address}: {why}.", address=config.address, why=why)
        ) from error


async def _exchange_hellos(
    socket: aiohttp.ClientWebSocketResponse, config: WorkerConfig
) -> wire.WorkerHello:
    not_ours = WorkerError(
        say(
            "What answers at {address} is not an ovis-worker: it did not say hello.",
            address=config.address,
        ),
        _OTHER_PROGRAM,
    )
    hello = wire.ClientHello(wire.MAGIC, wire.PROTOCOL_VERSION, CLIENT_NAME, config.token)
    try:
        await socket.send_bytes(wire.encode_client(hello))
        frame = await asyncio.wait_for(socket.receive(), HELLO_SECONDS)
    except (ConnectionError, asyncio.TimeoutError) as error:
        raise not_ours from error
    if frame.type is not aiohttp.WSMsgType.BINARY or len(frame.data) < 12:
        raise not_ours
    # These three fields keep their place in every version; the rest may not.
    _, magic, protocol = struct.unpack_from("<III", frame.data)
    if magic != wire.MAGIC:
        raise not_ours
    if protocol != wire.PROTOCOL_VERSION:
        older = (
            say("Update the worker, which is the older of the two.")
            if protocol < wire.PROTOCOL_VERSION
            else say("Update the node pack, which is the older of the two.")
        )
        raise WorkerError(
            say(
                "The worker at {address} speaks protocol version {theirs}, this node pack version "
                "{ours}.",
                address=config.address,
                theirs=protocol,
                ours=wire.PROTOCOL_VERSION,
            ),
            older,
            wire.ErrorCode.VERSION_MISMATCH,
        )
    try:
        answer = wire.decode_worker(frame.data)
    except WireFormatError as error:
        raise not_ours from error
    if isinstance(answer, wire.Refused):
        raise WorkerError.from_wire(answer.error)
    if not isinstance(answer, wire.WorkerHello):
        raise not_ours
    return answer
