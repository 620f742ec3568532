"""One websocket connection to one worker, and the jobs that run on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from .. import wire
from ..settings.config import WorkerConfig
from ..settings.secret import Secret
from ..texts import SHOWN_MODULE, WorkerError, printable, say
from ..wire import WireFormatError, transfer
from .debts import Debts
from .errors import ConnectionLost, from_wire
from .handshake import CONNECT_SECONDS, exchange_hellos, open_socket
from .job import Job, JobResult, unexpected_error
from .tls import connector

log = logging.getLogger("ovis-worker")

STATUS_SECONDS = 15.0
LIST_SECONDS = 300.0
"""How long a list of adapters may take: the worker hashes files that it does not know yet."""
TELL_SECONDS = 5.0
"""How long to try to send a message about a job that is over, because the network may be down."""
QUIET_SECONDS = 30.0
"""A job about which nothing arrives for this long is claimed again: another ComfyUI of the same
owner may have claimed it."""

_EVENTS = wire.Queued | wire.Started | wire.Progress | wire.Preview

_ENDS = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.ERROR,
)
"""Frame types that mean the end of the connection; a missed heartbeat is an ``ERROR``."""


@dataclass
class _AdapterListing:
    """An awaited list of adapters, and the parts of it that have come."""

    answer: asyncio.Future[list[wire.AdapterInfo]]
    found: list[wire.AdapterInfo] = field(default_factory=list)

    def add(self, part: wire.Adapters) -> bool:
        """Adds a part; returns whether it was the last."""
        self.found += part.adapters
        if not part.more and not self.answer.done():
            self.answer.set_result(self.found)
        return not part.more


@dataclass
class Connection:
    """An open websocket after the exchange of hellos. It belongs to one event loop."""

    config: WorkerConfig
    session: aiohttp.ClientSession
    socket: aiohttp.ClientWebSocketResponse
    hello: wire.WorkerHello
    debts: Debts = field(default_factory=Debts)
    jobs: dict[bytes, Job] = field(default_factory=dict)
    ended: bool = False
    lost_at: float | None = None
    """When the connection ended or the worker announced its shutdown, by ``time.monotonic``."""
    shutdown_reason: str | None = None
    """The reason that the worker gave when it announced its shutdown."""
    reader: asyncio.Task | None = None
    _tasks: set[asyncio.Task] = field(default_factory=set)
    _statuses: list[asyncio.Future[wire.Status]] = field(default_factory=list)
    _lists: list[_AdapterListing] = field(default_factory=list)

    @classmethod
    async def open(cls, config: WorkerConfig, owner: Secret, debts: Debts) -> Connection:
        """Connects, exchanges hellos, and tells the worker about jobs that are over here.

        Raises :class:`NoWorker` if nothing answers, and :class:`WorkerError` if the worker refuses
        or another program answers.
        """
        session = aiohttp.ClientSession(
            connector=connector(config),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        )
        try:
            socket = await open_socket(session, config)
            hello = await exchange_hellos(socket, config, owner)
        except BaseException:
            await session.close()
            raise
        connection = cls(config, session, socket, hello, debts)
        connection.reader = asyncio.create_task(connection._read())
        await connection.settle_debts()
        return connection

    @property
    def usable(self) -> bool:
        """Whether new jobs may be sent on this connection."""
        return not self.ended and self.shutdown_reason is None

    async def run(self, job: Job) -> JobResult:
        """Runs one job to its end, or takes it over if the worker already has all of it.

        Cancelling this coroutine leaves the job with the worker. Raises :class:`ConnectionLost` if
        the connection ends first, and :class:`WorkerError` if the job fails.
        """
        end = job.begin()
        if not self.usable:
            raise self._connection_lost()
        self.jobs[job.name] = job
        sender = asyncio.create_task(self._claim(job) if job.is_claim else self._send_job(job))
        watch = asyncio.create_task(self._watch(job))
        try:
            return await end
        finally:
            sender.cancel()
            watch.cancel()
            if self.jobs.get(job.name) is job:
                del self.jobs[job.name]

    async def settle_debts(self) -> None:
        """Sends the acknowledgements and cancellations that are due."""
        await self.debts.deliver(self, self._tell)

    async def _tell(self, message: object) -> bool:
        """Sends a message about a job that is over; returns whether that worked."""
        if self.ended:
            return False
        try:
            await asyncio.wait_for(self._send(message), TELL_SECONDS)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, RuntimeError) as error:
            log.debug("The worker could not be told about a job: %s", error)
            return False
        return True

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

    async def adapters(self) -> list[wire.AdapterInfo]:
        """The worker's adapters that fit its model.

        Raises :class:`WorkerError` if the connection ends or the worker does not answer in time.
        """
        listing = _AdapterListing(asyncio.get_running_loop().create_future())
        self._lists.append(listing)
        try:
            await self._send(wire.ListAdapters())
            return await asyncio.wait_for(listing.answer, LIST_SECONDS)
        except (asyncio.TimeoutError, aiohttp.ClientError, OSError, RuntimeError) as error:
            raise self._connection_lost() from error

    async def close(self) -> None:
        """Closes the websocket; unfinished jobs fail with :class:`ConnectionLost`."""
        self._end(None)
        await self.socket.close()
        await self.session.close()

    def _end(self, problem: WorkerError | None) -> None:
        """Marks the connection as ended and fails every unfinished job."""
        self.ended = True
        self.lost_at = self.lost_at or time.monotonic()
        self.debts.lost(self)
        for job in list(self.jobs.values()):
            job.fail(problem or self._connection_lost())
        for answer in [*self._statuses, *(listing.answer for listing in self._lists)]:
            if not answer.done():
                answer.set_exception(ConnectionResetError())

    async def _send(self, message: object) -> None:
        await self.socket.send_bytes(wire.encode_client(message))

    async def _send_job(self, job: Job) -> None:
        tensors = job.tensors()
        headers = [tensor.header for tensor in tensors]
        options = job.options(self.hello.keeping)

        async def upload() -> None:
            await self._send(wire.Submit(job.name, job.work.request, headers, options))
            for chunk in transfer.chunks(job.name, tensors):
                if job.end.done():  # refused before all bytes were sent
                    return
                await self._send(chunk)
            job.is_uploaded = True

        await self._sending(job, upload())

    async def _claim(self, job: Job) -> None:
        await self._sending(job, self._send(job.claim()))

    async def _sending(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        """Awaits the sending of a job; an error ends the job."""
        try:
            await work
        except WireFormatError as error:
            job.fail(not_encodable(error))
        except (aiohttp.ClientError, OSError) as error:
            log.debug("A job could not be sent: %s", error)
            job.fail(self._connection_lost())
        except Exception as error:
            log.exception("A job could not be sent.")
            job.fail(unexpected_error(error))

    async def _watch(self, job: Job) -> None:
        """Claims the job again whenever nothing was heard of it for a while."""
        while True:
            due = job.last_heard + QUIET_SECONDS - time.monotonic()
            if due > 0 or not job.is_uploaded:
                await asyncio.sleep(max(due, QUIET_SECONDS / 10))
                continue
            job.last_heard = time.monotonic()
            await self._claim(job)

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
            if message.error.code in (wire.ErrorCode.QUEUE_FULL, wire.ErrorCode.SHUTTING_DOWN):
                return None  # the connection was dropped, the jobs were not
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
        if isinstance(message, wire.Adapters):
            if self._lists and self._lists[0].add(message):
                self._lists.pop(0)
            return None
        name = getattr(message, "job", b"")
        job = self.jobs.get(name)
        is_left = job is None or (job.end.done() and not job.has_ended)
        if job is not None and not job.end.done():
            job.last_heard = time.monotonic()
            self._handle_job(job, message)
        elif is_left and isinstance(message, wire.Done | wire.Failed | wire.Cancelled):
            # The late end of a job that was cancelled here.
            self.debts.note_end(name)
            task = asyncio.create_task(self.settle_debts())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return None  # a late message of a cancelled job, or a message of a newer worker

    def _handle_job(self, job: Job, message: object) -> None:
        if isinstance(message, _EVENTS):
            job.report(message)
        elif isinstance(message, wire.Done):
            job.result_begins(message)
        elif isinstance(message, wire.Chunk):
            job.result_goes_on(message)
        elif isinstance(message, wire.State):
            job.state.push(message)
        elif isinstance(message, wire.Failed):
            self._job_failed(job, message.error)
        elif isinstance(message, wire.Cancelled):
            job.has_ended = True
            job.fail(CancelledThere())

    def _job_failed(self, job: Job, error: wire.WireError) -> None:
        if error.code == wire.ErrorCode.SHUTTING_DOWN:
            # The worker is shutting down; the job itself is valid and may be sent again.
            self._note_shutdown(error.message)
            job.forget_submission()
            job.fail(self._connection_lost())
        else:
            job.has_ended = True
            job.fail(from_wire(error))

    def _note_shutdown(self, why: str) -> None:
        self.shutdown_reason = self.shutdown_reason or printable(why)
        self.lost_at = self.lost_at or time.monotonic()

    def _connection_lost(self) -> ConnectionLost:
        if self.shutdown_reason is not None:
            return ConnectionLost(
                say("The worker at {address} is shutting down.", address=self.config.address),
                say("Run the workflow again when the worker is back."),
                announced=True,
            )
        return ConnectionLost(
            say(
                "The connection to the worker at {address} was lost during the job.",
                address=self.config.address,
            ),
            say("See the worker's log; if it ended by itself, its last lines say why."),
        )


class CancelledThere(WorkerError):
    """The worker reports that the job was cancelled, which nobody here has asked for."""

    __module__ = SHOWN_MODULE

    def __init__(self) -> None:
        super().__init__(say("The worker cancelled the job, although it was not asked to."))


def not_encodable(error: WireFormatError) -> WorkerError:
    """The error for a request with values that the wire cannot represent."""
    return WorkerError(say("The request cannot be sent: {why}.", why=printable(error)))
