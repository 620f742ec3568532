"""One socket to one worker, from its hello to its end."""

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
from ..texts import WorkerError, say, shown
from ..wire import WireFormatError, WireTensor, transfer
from .errors import ConnectionLost, from_wire
from .handshake import CONNECT_SECONDS, exchange_hellos, open_socket

log = logging.getLogger("ovis-worker")

STATUS_SECONDS = 15.0
CANCEL_SECONDS = 5.0
"""How long a cancelled job may try to tell the worker, whose network may be away."""

Event = wire.Queued | wire.Started | wire.Progress | wire.Preview
"""What a job reports while it runs."""

_ENDS = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.ERROR,
)
"""Frames that say that the connection has ended; a missed heartbeat is an ``ERROR``."""


@dataclass
class JobResult:
    """A finished job's tensors by name, and what is worth saying beside them."""

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
        """Tells who waits; what goes wrong there ends this job and no other."""
        if isinstance(event, wire.Started):
            self.started_at = time.monotonic()
        try:
            self.on_event(event)
        except Exception as error:
            log.exception("An event of a job could not be shown.")
            self.fail(unexpected(error))

    def finish_if_complete(self) -> None:
        if self.assembler.complete and not self.future.done():
            arrived = {tensor.header.name: tensor for tensor in self.assembler.finish()}
            self.future.set_result(JobResult(arrived, self.outcome))


def unexpected(error: BaseException) -> WorkerError:
    """An error that nothing here foresees, as a sentence."""
    kind = type(error).__name__
    return WorkerError(
        say("The job failed in the node pack: {why} ({kind}).", why=shown(error), kind=kind),
        say("ComfyUI's log has the details."),
    )


@dataclass
class Connection:
    """An open socket whose hellos are exchanged. Lives on one event loop."""

    config: WorkerConfig
    session: aiohttp.ClientSession
    socket: aiohttp.ClientWebSocketResponse
    hello: wire.WorkerHello
    jobs: dict[bytes, _Job] = field(default_factory=dict)
    ended: bool = False
    lost_at: float | None = None
    """When it ended, or the worker said that it will, by ``time.monotonic``."""
    leaving: str | None = None
    """What the worker said when it announced its end."""
    reader: asyncio.Task | None = None
    _statuses: list[asyncio.Future[wire.Status]] = field(default_factory=list)

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
        """Whether a new job may be sent on it."""
        return not self.ended and self.leaving is None

    async def run(
        self,
        request: object,
        tensors: Sequence[WireTensor],
        on_event: Callable[[Event], None],
    ) -> JobResult:
        """Runs one job to its end; cancelling this cancels the job on the worker.

        Whatever goes wrong on the way ends the job with an exception.
        """
        headers = [tensor.header for tensor in tensors]
        transfer.check_set(headers)
        name = uuid.uuid4().bytes
        job = _Job(asyncio.get_running_loop().create_future(), on_event)
        if not self.usable:
            raise self._lost(job)
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
        """For how many seconds the worker's process has run; ``None`` where it does not say."""
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
        """Ends the socket; unfinished jobs fail with :class:`ConnectionLost`."""
        self._end(None)
        await self.socket.close()
        await self.session.close()

    def _end(self, problem: WorkerError | None) -> None:
        """Nothing comes any more: every job ends, with its own account of it."""
        self.ended = True
        self.lost_at = self.lost_at or time.monotonic()
        for job in list(self.jobs.values()):
            job.fail(problem or self._lost(job))
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
                if job.future.done():  # refused before its last byte
                    return
                await self._send(chunk)
        except WireFormatError as error:
            job.fail(cannot_be_sent(error))
        except (aiohttp.ClientError, OSError) as error:
            log.debug("A job could not be sent: %s", error)
            job.fail(self._lost(job))
        except Exception as error:
            log.exception("A job could not be sent.")
            job.fail(unexpected(error))

    async def _read(self) -> None:
        problem: WorkerError | None = None
        try:
            async for frame in self.socket:
                if frame.type in _ENDS:
                    break
                if frame.type is not aiohttp.WSMsgType.BINARY:
                    raise WireFormatError(f"a {frame.type.name} frame came")
                problem = self._take(wire.decode_worker(frame.data)) or problem
        except WireFormatError as error:
            problem = WorkerError(
                say(
                    "The worker at {address} sent what is not a message: {why}.",
                    address=self.config.address,
                    why=shown(error),
                )
            )
        except (aiohttp.ClientError, OSError) as error:
            log.debug("The connection ended: %s", error)
        except Exception as error:
            log.exception("What the worker sent could not be taken.")
            problem = unexpected(error)
        finally:
            self._end(problem)
            with contextlib.suppress(Exception):
                await self.socket.close()
                await self.session.close()

    def _take(self, message: object) -> WorkerError | None:
        """Handles one message; returns the reason when it refuses to go on."""
        if isinstance(message, wire.Refused):
            return from_wire(message.error)
        if isinstance(message, wire.ShuttingDown):
            self._leaves(message.reason)
            return None
        if isinstance(message, wire.Status):
            if self._statuses:
                answer = self._statuses.pop(0)
                if not answer.done():
                    answer.set_result(message)
            return None
        job = self.jobs.get(getattr(message, "job", b""))
        if job is None:
            return None  # a cancelled job's last words, or a message of a newer worker
        if isinstance(message, Event):
            job.report(message)
        elif isinstance(message, wire.Done):
            job.outcome = message.outcome
            job.assembler = transfer.Assembler(message.tensors)
            job.finish_if_complete()
        elif isinstance(message, wire.Chunk):
            if job.assembler is None:
                raise WireFormatError("a chunk came before its job was done")
            job.assembler.push(message)
            job.finish_if_complete()
        elif isinstance(message, wire.Failed):
            self._failed(job, message.error)
        elif isinstance(message, wire.Cancelled):
            job.fail(WorkerError(say("The worker dropped the job as if it had been cancelled.")))
        return None

    def _failed(self, job: _Job, error: wire.WireError) -> None:
        if error.code == wire.ErrorCode.SHUTTING_DOWN:
            # The worker goes away; the job has done nothing wrong.
            self._leaves(error.message)
            job.fail(self._lost(job))
        else:
            job.fail(from_wire(error))

    def _leaves(self, why: str) -> None:
        self.leaving = self.leaving or shown(why)
        self.lost_at = self.lost_at or time.monotonic()

    def _lost(self, job: _Job) -> ConnectionLost:
        if self.leaving is not None:
            return ConnectionLost(
                say("The worker at {address} is shutting down.", address=self.config.address),
                say("Run the workflow again when it is back."),
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


def cannot_be_sent(error: WireFormatError) -> WorkerError:
    """A request whose values have no place on the wire."""
    return WorkerError(say("The request cannot be sent: {why}.", why=shown(error)))
