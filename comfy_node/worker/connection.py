"""One websocket connection to one worker, and the jobs that run on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from .. import wire
from ..settings.config import WorkerConfig
from ..texts import WorkerError, printable, say
from ..wire import WireFormatError, WireTensor, transfer
from .errors import ConnectionLost, from_wire
from .handshake import CONNECT_SECONDS, exchange_hellos, open_socket

log = logging.getLogger("ovis-worker")

STATUS_SECONDS = 15.0
CANCEL_SECONDS = 5.0
"""How long to try to send a cancellation, because the network may be down."""

Event = wire.Queued | wire.Started | wire.Progress | wire.Preview
"""What a job reports while it runs."""

_ENDS = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.ERROR,
)
"""Frame types that mean the end of the connection; a missed heartbeat is an ``ERROR``."""


@dataclass
class JobResult:
    """A finished job's tensors by name, and its outcome."""

    tensors: dict[str, WireTensor]
    outcome: wire.Outcome


@dataclass
class _Job:
    future: asyncio.Future[JobResult]
    on_event: Callable[[Event], None]
    started_at: float | None = None
    outcome: wire.Outcome | None = None
    assembler: transfer.Assembler | None = None

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def report(self, event: Event) -> None:
        """Passes an event on. An exception from the callback fails this job and no other."""
        if isinstance(event, wire.Started):
            self.started_at = time.monotonic()
        try:
            self.on_event(event)
        except Exception as error:
            log.exception("An event of a job could not be displayed.")
            self.fail(unexpected_error(error))

    def finish_if_complete(self) -> None:
        if self.assembler.complete and not self.future.done():
            arrived = {tensor.header.name: tensor for tensor in self.assembler.finish()}
            self.future.set_result(JobResult(arrived, self.outcome))


def unexpected_error(error: BaseException) -> WorkerError:
    """Wraps an exception that no code handles in a sentence."""
    kind = type(error).__name__
    return WorkerError(
        say("The job failed in the node pack: {why} ({kind}).", why=printable(error), kind=kind),
        say("ComfyUI's log has the details."),
    )


@dataclass
class Connection:
    """An open websocket after the exchange of hellos. It belongs to one event loop."""

    config: WorkerConfig
    session: aiohttp.ClientSession
    socket: aiohttp.ClientWebSocketResponse
    hello: wire.WorkerHello
    jobs: dict[bytes, _Job] = field(default_factory=dict)
    ended: bool = False
    lost_at: float | None = None
    """When the connection ended or the worker announced its shutdown, by ``time.monotonic``."""
    shutdown_reason: str | None = None
    """The reason that the worker gave when it announced its shutdown."""
    reader: asyncio.Task | None = None
    _statuses: list[asyncio.Future[wire.Status]] = field(default_factory=list)

    @classmethod
    async def open(cls, config: WorkerConfig) -> Connection:
        """Connects and exchanges hellos.

        Raises :class:`NoWorker` if nothing answers, and :class:`WorkerError` if the worker refuses
        or another program answers.
        """
        session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        )
        try:
            socket = await open_socket(session, config)
            hello = await exchange_hellos(socket, config)
        except BaseException:
            await session.close()
            raise
        connection = cls(config, session, socket, hello)
        connection.reader = asyncio.create_task(connection._read())
        return connection

    @property
    def usable(self) -> bool:
        """Whether new jobs may be sent on this connection."""
        return not self.ended and self.shutdown_reason is None

    async def run(
        self,
        request: object,
        tensors: Sequence[WireTensor],
        on_event: Callable[[Event], None],
    ) -> JobResult:
        """Runs one job to its end. Cancelling this coroutine cancels the job on the worker.

        Raises :class:`ConnectionLost` if the connection ends first, :class:`WireFormatError` if the
        tensors exceed a limit, and :class:`WorkerError` if the job fails.
        """
        headers = [tensor.header for tensor in tensors]
        transfer.check_set(headers)
        name = uuid.uuid4().bytes
        job = _Job(asyncio.get_running_loop().create_future(), on_event)
        if not self.usable:
            raise self._connection_lost(job)
        self.jobs[name] = job
        sender = asyncio.create_task(self._send_job(name, job, request, headers, tensors))
        try:
            return await job.future
        except asyncio.CancelledError:
            sender.cancel()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._send(wire.Cancel(name)), CANCEL_SECONDS)
            raise
        finally:
            sender.cancel()
            self.jobs.pop(name, None)

    async def uptime(self) -> float | None:
        """For how many seconds the worker's process has run, or ``None`` if it does not answer."""
        answer = asyncio.get_running_loop().create_future()
        self._statuses.append(answer)
        try:
            await self._send(wire.StatusRequest())
            status = await asyncio.wait_for(answer, STATUS_SECONDS)
            return status.uptime_seconds
        except (asyncio.TimeoutError, aiohttp.ClientError, OSError, RuntimeError):
            return None
        finally:
            if answer in self._statuses:
                self._statuses.remove(answer)

    async def close(self) -> None:
        """Closes the websocket; unfinished jobs fail with :class:`ConnectionLost`."""
        self._end(None)
        await self.socket.close()
        await self.session.close()

    def _end(self, problem: WorkerError | None) -> None:
        """Marks the connection as ended and fails every unfinished job."""
        self.ended = True
        self.lost_at = self.lost_at or time.monotonic()
        for job in list(self.jobs.values()):
            job.fail(problem or self._connection_lost(job))
        for answer in self._statuses:
            if not answer.done():
                answer.set_exception(ConnectionResetError())

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
            for chunk in transfer.chunks(name, tensors):
                if job.future.done():  # refused before all bytes were sent
                    return
                await self._send(chunk)
        except WireFormatError as error:
            job.fail(not_encodable(error))
        except (aiohttp.ClientError, OSError) as error:
            log.debug("A job could not be sent: %s", error)
            job.fail(self._connection_lost(job))
        except Exception as error:
            log.exception("A job could not be sent.")
            job.fail(unexpected_error(error))

    async def _read(self) -> None:
        problem: WorkerError | None = None
        try:
            async for frame in self.socket:
                if frame.type in _ENDS:
                    break
                if frame.type is not aiohttp.WSMsgType.BINARY:
                    raise WireFormatError(f"a {frame.type.name} frame arrived")
                problem = self._handle(wire.decode_worker(frame.data)) or problem
        except WireFormatError as error:
            problem = WorkerError(
                say(
                    "The worker at {address} sent an invalid message: {why}.",
                    address=self.config.address,
                    why=printable(error),
                )
            )
        except (aiohttp.ClientError, OSError) as error:
            log.debug("The connection was lost: %s", error)
        except Exception as error:
            log.exception("A message of the worker could not be handled.")
            problem = unexpected_error(error)
        finally:
            self._end(problem)
            with contextlib.suppress(Exception):
                await self.socket.close()
                await self.session.close()

    def _handle(self, message: object) -> WorkerError | None:
        """Handles one message. Returns an error if the worker refuses the connection."""
        if isinstance(message, wire.Refused):
            return from_wire(message.error)
        if isinstance(message, wire.ShuttingDown):
            self._note_shutdown(message.reason)
            return None
        if isinstance(message, wire.Status):
            if self._statuses:
                answer = self._statuses.pop(0)
                if not answer.done():
                    answer.set_result(message)
            return None
        job = self.jobs.get(getattr(message, "job", b""))
        if job is None:
            return None  # a late message of a cancelled job, or a message of a newer worker
        if isinstance(message, Event):
            job.report(message)
        elif isinstance(message, wire.Done):
            job.outcome = message.outcome
            job.assembler = transfer.Assembler(message.tensors)
            job.finish_if_complete()
        elif isinstance(message, wire.Chunk):
            if job.assembler is None:
                raise WireFormatError("a chunk arrived before the message that its job is done")
            job.assembler.push(message)
            job.finish_if_complete()
        elif isinstance(message, wire.Failed):
            self._job_failed(job, message.error)
        elif isinstance(message, wire.Cancelled):
            job.fail(
                WorkerError(say("The worker cancelled the job, although it was not asked to."))
            )
        return None

    def _job_failed(self, job: _Job, error: wire.WireError) -> None:
        if error.code == wire.ErrorCode.SHUTTING_DOWN:
            # The worker is shutting down; the job itself is valid and may be sent again.
            self._note_shutdown(error.message)
            job.fail(self._connection_lost(job))
        else:
            job.fail(from_wire(error))

    def _note_shutdown(self, why: str) -> None:
        self.shutdown_reason = self.shutdown_reason or printable(why)
        self.lost_at = self.lost_at or time.monotonic()

    def _connection_lost(self, job: _Job) -> ConnectionLost:
        if self.shutdown_reason is not None:
            return ConnectionLost(
                say("The worker at {address} is shutting down.", address=self.config.address),
                say("Run the workflow again when the worker is back."),
                announced=True,
                started_at=job.started_at,
            )
        return ConnectionLost(
            say(
                "The connection to the worker at {address} was lost during the job.",
                address=self.config.address,
            ),
            say("See the worker's log; if it ended by itself, its last lines say why."),
            started_at=job.started_at,
        )


def not_encodable(error: WireFormatError) -> WorkerError:
    """The error for a request with values that the wire cannot represent."""
    return WorkerError(say("The request cannot be sent: {why}.", why=printable(error)))
