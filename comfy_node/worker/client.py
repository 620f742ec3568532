"""A worker as the nodes see it: one connection, kept between prompts.

ComfyUI runs each prompt in an event loop of its own, which ends with the
prompt. So the connection lives here on its own thread and loop, and a job is a
:class:`concurrent.futures.Future` that any thread or loop can wait for.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from .. import wire
from ..settings.config import WorkerConfig
from ..texts import WorkerError, say, shown
from ..wire import WireFormatError, WireTensor
from . import process as worker_process
from . import start_failure
from .connection import Connection, Event, JobResult, cannot_be_sent, unexpected
from .errors import ConnectionLost, NoWorker, StartFailed
from .pace import Pace
from .process import WorkerProcess
from .start_hint import how_to_start

log = logging.getLogger("ovis-worker")

START_SECONDS = 600.0
"""How long a started worker may take to answer: it may read 20 GB from a slow disk."""
START_POLL_SECONDS = 0.25
OTHER_SECONDS = 10.0
"""How often it is looked whether another worker, which still loads, is there no more."""
STOP_SECONDS = 120.0
"""How long a worker that was asked to stop is waited for before another one is started."""
CLOSE_SECONDS = 1.0
RETURN_SECONDS = 120.0
"""How long a job waits for a lost worker to be there again."""
RETURN_POLL_SECONDS = 1.0
REAP_SECONDS = 2.0
"""How long after its socket a process that has ended may still seem to run."""
MOST_LOSSES = 4
"""How often one job may lose its connection before it is given up."""


@dataclass
class Lost:
    """The connection ended during the job, or before it, and the worker is waited for."""

    message: str


JobEvent = Event | Lost
"""What a job reports, on the worker and on the way there."""


class WorkerClient:
    """Runs jobs on one worker. Connects when there is a job, and again when it must."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self._loop = asyncio.new_event_loop()
        self.pace = Pace()
        self.problem: WorkerError | None = None
        """Why it could not connect the last time it tried."""
        self._connection: Connection | None = None
        self._process: WorkerProcess | None = None
        self._connecting = asyncio.Lock()
        self._scheduling = threading.Lock()
        self._closed = False
        self._retired = False
        self._works = 0
        self._thread = threading.Thread(
            target=self._turn, name=f"ovis-worker {config.address}", daemon=True
        )
        self._thread.start()

    def submit(
        self,
        request: object,
        tensors: Sequence[WireTensor] = (),
        on_event: Callable[[JobEvent], None] = lambda _: None,
    ) -> concurrent.futures.Future[JobResult]:
        """Runs a job; ``on_event`` is called on the client's thread.

        The future raises :class:`WorkerError`; cancelling it cancels the job on
        the worker. The tensors' bytes must not change until it is done.
        """
        return self._schedule(self._run(request, tensors, on_event))

    def connect(
        self, on_event: Callable[[JobEvent], None] = lambda _: None
    ) -> concurrent.futures.Future[wire.WorkerHello]:
        """Connects, starting the worker when that is needed and known how."""

        async def hello() -> wire.WorkerHello:
            return (await self._connected(on_event)).hello

        return self._schedule(hello())

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""
        return self._connection is not None and self._connection.usable

    @property
    def starting(self) -> bool:
        """Whether a worker that was started does not answer yet."""
        process = self._process
        if process is None or self.connected:
            return False
        return process.exit_code is None or (process.found_another and self._connecting.locked())

    def close(self) -> None:
        """Ends the connection and the thread; a started worker stays."""

        async def end() -> None:
            if self._connection:
                await self._connection.close()
            # Unfinished jobs have failed now; what still connects is given up.
            jobs = asyncio.all_tasks() - {asyncio.current_task()}
            if jobs:
                _, stuck = await asyncio.wait(jobs, timeout=CLOSE_SECONDS)
                for job in stuck:
                    job.cancel()
                await asyncio.gather(*stuck, return_exceptions=True)

        with self._scheduling:
            if self._closed:
                return
            self._closed = True
            ending = asyncio.run_coroutine_threadsafe(end(), self._loop)
        with contextlib.suppress(concurrent.futures.TimeoutError):
            ending.result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    def retire(self) -> None:
        """Closes when the last job has ended: the settings have changed meanwhile."""
        with self._scheduling:
            self._retired = True
            idle = self._works == 0
        if idle:
            threading.Thread(target=self.close, daemon=True).start()

    def _turn(self) -> None:
        """The thread: an exception that ends the loop's turn does not end the loop."""
        while not self._closed:
            try:
                self._loop.run_forever()
            except BaseException:
                log.exception("The loop of the worker's connection goes on.")

    def _schedule(self, work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future:
        """Runs ``work`` on the client's thread. The future ends, whatever happens there."""
        with self._scheduling:
            if self._closed:
                work.close()
                future: concurrent.futures.Future = concurrent.futures.Future()
                future.set_exception(
                    NoWorker(
                        say(
                            "The connection to the worker at {address} was closed here.",
                            address=self.config.address,
                        ),
                        say("Run the workflow again."),
                    )
                )
                return future
            self._works += 1
            return asyncio.run_coroutine_threadsafe(self._sentences(work), self._loop)

    async def _sentences(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The work's result; every exception but a cancel's comes out as a sentence."""
        try:
            return await work
        except WireFormatError as error:
            raise cannot_be_sent(error) from error
        except (WorkerError, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            log.exception("A job failed in the node pack.")
            raise unexpected(error) from error
        finally:
            with self._scheduling:
                self._works -= 1
                over = self._retired and self._works == 0
            if over:
                threading.Thread(target=self.close, daemon=True).start()

    async def _run(
        self, request: object, tensors: Sequence[WireTensor], on_event: Callable[[JobEvent], None]
    ) -> JobResult:
        def tell(event: Event) -> None:
            self.pace.see(event)
            on_event(event)

        losses = 0
        leaving_since: float | None = None
        try:
            while True:
                try:
                    return await (await self._connected(on_event)).run(request, tensors, tell)
                except ConnectionLost as lost:
                    now = time.monotonic()
                    if lost.announced and lost.started_at is None:
                        # A worker that goes away may take its time, and refuse until then.
                        leaving_since = leaving_since or now
                        given_up = now - leaving_since > RETURN_SECONDS
                    else:
                        leaving_since = None
                        losses += 1
                        given_up = losses >= MOST_LOSSES
                    if self._closed or given_up:
                        raise
                    on_event(Lost(lost.message))
                    if not lost.announced and lost.started_at is not None:
                        await self._prove_innocent(lost)
                    else:
                        await asyncio.sleep(min(RETURN_POLL_SECONDS, RETURN_SECONDS))
                    log.warning("%s The job is sent again.", lost.message)
        finally:
            self.pace.end()

    async def _prove_innocent(self, lost: ConnectionLost) -> None:
        """Returns if the worker's process lived on, so that the job did not end it.

        A job that was running when the process died may be why, and would end the next
        one too: then this raises :class:`WorkerError`. So it does where nobody can tell.
        """
        process = self._process
        if process is not None and await _has_ended(process):
            raise _parked()
        try:
            connection = await self._connected_now(may_start=False)
        except NoWorker:
            if worker_process.has_ended(self.config):
                raise _parked() from lost
            connection = await self._connected(may_start=False)
        uptime = await connection.uptime()
        # A process that is older than the job's start has seen both.
        if uptime is None or time.monotonic() - uptime > lost.started_at:
            raise _parked()

    async def _connected(
        self, on_event: Callable[[JobEvent], None] = lambda _: None, *, may_start: bool = True
    ) -> Connection:
        """The open connection or a new one; a worker that was lost lately is waited for."""
        waits = False
        while True:
            try:
                return await self._connected_now(may_start)
            except StartFailed:
                raise
            except WorkerError as error:
                is_away = isinstance(error, NoWorker) or error.code == wire.ErrorCode.SHUTTING_DOWN
                lost_at = self._connection.lost_at if self._connection else None
                if self._closed or not is_away or lost_at is None:
                    raise
                lost = say(
                    "The connection to the worker at {address} was lost.",
                    address=self.config.address,
                )
                if time.monotonic() > lost_at + RETURN_SECONDS:
                    if not waits:
                        raise
                    raise NoWorker(
                        say(
                            "{lost} It was not there again after {seconds:.0f} seconds.",
                            lost=lost,
                            seconds=RETURN_SECONDS,
                        ),
                        error.hint,
                    ) from error
                if not waits:
                    waits = True
                    on_event(Lost(lost))
            await asyncio.sleep(RETURN_POLL_SECONDS)

    async def _connected_now(self, may_start: bool) -> Connection:
        async with self._connecting:
            if not self.connected or worker_process.is_stopping(self.config):
                try:
                    self._connection = await self._connect(may_start)
                except WorkerError as error:
                    self.problem = error
                    raise
                self.problem = None
                hello = self._connection.hello
                log.info(
                    "Connected to %s at %s: %s on %s",
                    shown(hello.worker, 100),
                    self.config.address,
                    shown(hello.capabilities.model, 100),
                    shown(hello.capabilities.device, 100),
                )
            return self._connection

    async def _connect(self, may_start: bool) -> Connection:
        # One that was asked to stop still answers for a moment, and refuses.
        deadline = time.monotonic() + STOP_SECONDS
        while worker_process.is_stopping(self.config) and time.monotonic() < deadline:
            await asyncio.sleep(START_POLL_SECONDS)
        try:
            return await Connection.open(self.config)
        except NoWorker as error:
            if not (may_start and self.config.binary and self.config.is_on_this_machine):
                raise NoWorker(error.message, how_to_start(self.config)) from error
        # A worker started for an earlier job that was interrupted may still be loading.
        process = self._process
        if process is None or process.exit_code is not None:
            process = self._start()
        return await self._wait_for_start(process)

    def _start(self) -> WorkerProcess:
        self._process = WorkerProcess(self.config)
        log.info("Started %s; its log is %s", " ".join(self._process.command), self._process.log)
        return self._process

    async def _wait_for_start(self, process: WorkerProcess) -> Connection:
        started = time.monotonic()
        deadline = started + START_SECONDS
        while True:
            try:
                connection = await Connection.open(self.config)
                process.has_answered = True
                return connection
            except NoWorker as error:
                status = process.exit_code
                if status is not None and process.has_answered:
                    # Its socket ended before it did, and it still ran when it was looked at.
                    process = self._start()
                elif process.found_another:
                    # Another ComfyUI's worker still loads there; if it is given up, ours is next.
                    if time.monotonic() > started + OTHER_SECONDS:
                        process, started = self._start(), time.monotonic()
                elif status is not None:
                    raise start_failure.ended(process) from error
                if time.monotonic() > deadline:
                    raise start_failure.silent(self.config, process, START_SECONDS) from error
            await asyncio.sleep(START_POLL_SECONDS)


async def _has_ended(process: WorkerProcess) -> bool:
    """Whether it has, also where its socket ended a moment before it."""
    deadline = time.monotonic() + REAP_SECONDS
    while process.exit_code is None and time.monotonic() < deadline:
        await asyncio.sleep(START_POLL_SECONDS)
    return process.exit_code is not None


def _parked() -> WorkerError:
    return WorkerError(
        say(
            "The worker ended while it ran this job, so the job was not sent again: it may be the "
            "cause."
        ),
        say("Queue it again to try once more."),
    )


_clients: dict[WorkerConfig, WorkerClient] = {}
_clients_lock = threading.Lock()


def known_client(config: WorkerConfig) -> WorkerClient | None:
    """The process's client for this worker, if anything has used it yet."""
    with _clients_lock:
        return _clients.get(config)


def client_for(config: WorkerConfig) -> WorkerClient:
    """The process's one client for this worker; one with earlier settings retires."""
    with _clients_lock:
        if config not in _clients:
            for earlier in [one for one in _clients if one.label == config.label]:
                _clients.pop(earlier).retire()
            _clients[config] = WorkerClient(config)
        return _clients[config]
