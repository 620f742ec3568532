"""Runs jobs on a worker over one connection, which is kept between prompts.

ComfyUI runs each prompt in its own event loop, which ends with the prompt. A connection must
outlive it, so each client has a thread with a loop of its own. A job is a
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
from ..texts import WorkerError, printable, say
from ..wire import WireFormatError, WireTensor
from . import process as worker_process
from . import start_failure
from .connection import Connection, Event, JobResult, not_encodable, unexpected_error
from .errors import ConnectionLost, NoWorker, StartFailed
from .pace import Pace
from .process import WorkerProcess
from .start_hint import how_to_start

log = logging.getLogger("ovis-worker")

START_SECONDS = 600.0
"""How long a started worker may take to answer; it may have to read 20 GB from a slow disk."""
START_POLL_SECONDS = 0.25
OTHER_SECONDS = 10.0
"""How often to check whether another worker that is still loading has gone away."""
STOP_SECONDS = 120.0
"""How long to wait for a worker that is stopping before another one is started."""
CLOSE_SECONDS = 1.0
RETURN_SECONDS = 120.0
"""How long a job waits for a lost worker to answer again."""
RETURN_POLL_SECONDS = 1.0
REAP_SECONDS = 2.0
"""How long a process that has ended may still seem to run after its socket was closed."""
MAX_LOSSES = 4
"""The number of lost connections after which a job fails."""


@dataclass
class Lost:
    """Event: the connection was lost, and the client waits for the worker to answer again."""

    message: str


JobEvent = Event | Lost
"""What a job reports while it runs or waits for the worker."""


class WorkerClient:
    """Runs jobs on one worker. Connects when a job needs it, and reconnects after a loss."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self._loop = asyncio.new_event_loop()
        self.pace = Pace()
        self.problem: WorkerError | None = None
        """Why the last attempt to connect failed, or ``None`` if it succeeded."""
        self._connection: Connection | None = None
        self._process: WorkerProcess | None = None
        self._connecting = asyncio.Lock()
        self._scheduling = threading.Lock()
        self._closed = False
        self._retired = False
        self._unfinished = 0
        self._thread = threading.Thread(
            target=self._run_loop, name=f"ovis-worker {config.address}", daemon=True
        )
        self._thread.start()

    def submit(
        self,
        request: object,
        tensors: Sequence[WireTensor] = (),
        on_event: Callable[[JobEvent], None] = lambda _: None,
    ) -> concurrent.futures.Future[JobResult]:
        """Submits a job; ``on_event`` is called on the client's thread.

        The future raises :class:`WorkerError`. Cancelling it cancels the job on the worker. The
        tensors' bytes must not change until it is done.
        """
        return self._schedule(self._run(request, tensors, on_event))

    def connect(
        self, on_event: Callable[[JobEvent], None] = lambda _: None
    ) -> concurrent.futures.Future[wire.WorkerHello]:
        """Connects to the worker; starts it first if it is not running and may be started."""

        async def hello() -> wire.WorkerHello:
            return (await self._connect_or_wait(on_event)).hello

        return self._schedule(hello())

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""
        return self._connection is not None and self._connection.usable

    @property
    def starting(self) -> bool:
        """Whether a worker was started that does not answer yet."""
        process = self._process
        if process is None or self.connected:
            return False
        return process.exit_code is None or (process.found_another and self._connecting.locked())

    def close(self) -> None:
        """Closes the connection and ends the thread. A worker that was started keeps running."""

        async def end() -> None:
            if self._connection:
                await self._connection.close()
            # Closing the connection has failed the running jobs. Cancel those that still connect.
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
        """Closes the client when its last job has ended, because its settings were changed."""
        with self._scheduling:
            self._retired = True
            idle = self._unfinished == 0
        if idle:
            threading.Thread(target=self.close, daemon=True).start()

    def _run_loop(self) -> None:
        """The thread's function: restarts the loop if an exception escapes from it."""
        while not self._closed:
            try:
                self._loop.run_forever()
            except BaseException:
                log.exception(
                    "Unexpected error in the connection to the worker; the connection goes on."
                )

    def _schedule(self, work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future:
        """Runs ``work`` on the client's thread. The future always completes."""
        with self._scheduling:
            if self._closed:
                work.close()
                future: concurrent.futures.Future = concurrent.futures.Future()
                future.set_exception(
                    NoWorker(
                        say(
                            "The connection to the worker at {address} was closed by the "
                            "node pack.",
                            address=self.config.address,
                        ),
                        say("Run the workflow again."),
                    )
                )
                return future
            self._unfinished += 1
            return asyncio.run_coroutine_threadsafe(self._with_readable_errors(work), self._loop)

    async def _with_readable_errors(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Awaits ``work``; turns every exception but a cancellation into a :class:`WorkerError`."""
        try:
            return await work
        except WireFormatError as error:
            raise not_encodable(error) from error
        except (WorkerError, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            log.exception("A job failed in the node pack.")
            raise unexpected_error(error) from error
        finally:
            with self._scheduling:
                self._unfinished -= 1
                over = self._retired and self._unfinished == 0
            if over:
                threading.Thread(target=self.close, daemon=True).start()

    async def _run(
        self, request: object, tensors: Sequence[WireTensor], on_event: Callable[[JobEvent], None]
    ) -> JobResult:
        def tell(event: Event) -> None:
            self.pace.observe(event)
            on_event(event)

        losses = 0
        shutting_down_since: float | None = None
        try:
            while True:
                try:
                    return await (await self._connect_or_wait(on_event)).run(request, tensors, tell)
                except ConnectionLost as lost:
                    now = time.monotonic()
                    if lost.announced and lost.started_at is None:
                        # A worker that is shutting down may refuse new jobs for a while.
                        shutting_down_since = shutting_down_since or now
                        given_up = now - shutting_down_since > RETURN_SECONDS
                    else:
                        shutting_down_since = None
                        losses += 1
                        given_up = losses >= MAX_LOSSES
                    if self._closed or given_up:
                        raise
                    on_event(Lost(lost.message))
                    if not lost.announced and lost.started_at is not None:
                        await self._check_worker_survived(lost)
                    else:
                        await asyncio.sleep(min(RETURN_POLL_SECONDS, RETURN_SECONDS))
                    log.warning("%s Sending the job again.", lost.message)
        finally:
            self.pace.end()

    async def _check_worker_survived(self, lost: ConnectionLost) -> None:
        """Returns if the worker's process outlived the connection, so that the job may be resent.

        If the process died while it ran the job, the job may be the cause and could end the next
        process too. Then, and if this cannot be found out, it raises :class:`WorkerError`.
        """
        process = self._process
        if process is not None and await _has_ended(process):
            raise _not_sent_again()
        try:
            connection = await self._connect_once(may_start=False)
        except NoWorker:
            if worker_process.has_ended(self.config):
                raise _not_sent_again() from lost
            connection = await self._connect_or_wait(may_start=False)
        uptime = await connection.uptime()
        # A process that was started before the job did not die with it.
        if uptime is None or time.monotonic() - uptime > lost.started_at:
            raise _not_sent_again()

    async def _connect_or_wait(
        self, on_event: Callable[[JobEvent], None] = lambda _: None, *, may_start: bool = True
    ) -> Connection:
        """The open connection or a new one; waits for a worker whose connection was just lost."""
        waits = False
        while True:
            try:
                return await self._connect_once(may_start)
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
                            "{lost} Still unreachable after {seconds:.0f} seconds.",
                            lost=lost,
                            seconds=RETURN_SECONDS,
                        ),
                        error.hint,
                    ) from error
                if not waits:
                    waits = True
                    on_event(Lost(lost))
            await asyncio.sleep(RETURN_POLL_SECONDS)

    async def _connect_once(self, may_start: bool) -> Connection:
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
                    "Connected to %s at %s, which runs %s on %s",
                    printable(hello.worker, 100),
                    self.config.address,
                    printable(hello.capabilities.model, 100),
                    printable(hello.capabilities.device, 100),
                )
            return self._connection

    async def _connect(self, may_start: bool) -> Connection:
        # A worker that was asked to stop still accepts connections, but refuses jobs.
        deadline = time.monotonic() + STOP_SECONDS
        while worker_process.is_stopping(self.config) and time.monotonic() < deadline:
            await asyncio.sleep(START_POLL_SECONDS)
        try:
            return await Connection.open(self.config)
        except NoWorker as error:
            if not (may_start and self.config.binary and self.config.is_on_this_machine):
                raise NoWorker(error.message, how_to_start(self.config)) from error
        # A worker that was started for an earlier, interrupted job may still be loading.
        process = self._process
        if process is None or process.exit_code is not None:
            process = self._start()
        return await self._wait_for_start(process)

    def _start(self) -> WorkerProcess:
        self._process = WorkerProcess(self.config)
        log.info("Started %s, which logs to %s", " ".join(self._process.command), self._process.log)
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
                    # The process was still ending when it was checked above: start a new one.
                    process = self._start()
                elif process.found_another:
                    # Another worker, which is still loading, has the address. It may fail to
                    # load, so try from time to time to start ours.
                    if time.monotonic() > started + OTHER_SECONDS:
                        process, started = self._start(), time.monotonic()
                elif status is not None:
                    raise start_failure.exited(process) from error
                if time.monotonic() > deadline:
                    raise start_failure.not_answering(
                        self.config, process, START_SECONDS
                    ) from error
            await asyncio.sleep(START_POLL_SECONDS)


async def _has_ended(process: WorkerProcess) -> bool:
    """Whether the process has ended. Its socket may close a moment before the process exits."""
    deadline = time.monotonic() + REAP_SECONDS
    while process.exit_code is None and time.monotonic() < deadline:
        await asyncio.sleep(START_POLL_SECONDS)
    return process.exit_code is not None


def _not_sent_again() -> WorkerError:
    return WorkerError(
        say(
            "The worker exited while it ran this job. The job was not sent again, because it "
            "may be the cause."
        ),
        say("Queue the workflow again to retry."),
    )


_clients: dict[WorkerConfig, WorkerClient] = {}
_clients_lock = threading.Lock()


def known_client(config: WorkerConfig) -> WorkerClient | None:
    """This process's client for the worker, or ``None`` if nothing has used the worker yet."""
    with _clients_lock:
        return _clients.get(config)


def client_for(config: WorkerConfig) -> WorkerClient:
    """This process's only client for the worker. A client with earlier settings is retired."""
    with _clients_lock:
        if config not in _clients:
            for earlier in [one for one in _clients if one.label == config.label]:
                _clients.pop(earlier).retire()
            _clients[config] = WorkerClient(config)
        return _clients[config]
