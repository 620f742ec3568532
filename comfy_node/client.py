"""A worker as the nodes see it: one connection, kept between prompts.

ComfyUI runs each prompt in an event loop of its own, which ends with the
prompt. So the connection lives here on its own thread and loop, and a job is a
:class:`concurrent.futures.Future` that any thread or loop can wait for.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import wire
from .bincode import WireFormatError
from .connection import Connection, Event, JobResult
from .errors import ConnectionLost, NoWorker, WorkerError
from .pace import Pace
from .settings import WorkerConfig
from .tensors import WireTensor
from .texts import say
from .worker_process import WorkerProcess, how_to_start

log = logging.getLogger("ovis-worker")

START_SECONDS = 600.0
"""How long a started worker may take to answer: it may read 20 GB from a slow disk."""
START_POLL_SECONDS = 0.25
CLOSE_SECONDS = 1.0
RETURN_SECONDS = 120.0
"""How long a job waits for a lost worker to be there again."""
RETURN_POLL_SECONDS = 1.0


@dataclass
class Lost:
    """The connection ended during the job, which waits to be sent once more."""

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
        self._closed = False
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"ovis-worker {config.address}", daemon=True
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
        job = self._run(request, tensors, on_event)
        return asyncio.run_coroutine_threadsafe(job, self._loop)

    def connect(self) -> concurrent.futures.Future[wire.WorkerHello]:
        """Connects, starting the worker when that is needed and known how."""

        async def hello() -> wire.WorkerHello:
            return (await self._connected()).hello

        return asyncio.run_coroutine_threadsafe(hello(), self._loop)

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""
        return self._connection is not None and not self._connection.ended

    @property
    def starting(self) -> bool:
        """Whether a worker that was started does not answer yet."""
        process = self._process
        return process is not None and process.exit_code is None and not self.connected

    def close(self) -> None:
        """Ends the connection and the thread; a started worker stays."""

        async def end() -> None:
            self._closed = True
            if self._connection:
                await self._connection.close()
            # Unfinished jobs have failed now; what still connects is given up.
            jobs = asyncio.all_tasks() - {asyncio.current_task()}
            if jobs:
                _, stuck = await asyncio.wait(jobs, timeout=CLOSE_SECONDS)
                for job in stuck:
                    job.cancel()
                await asyncio.gather(*stuck, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    async def _run(
        self, request: object, tensors: Sequence[WireTensor], on_event: Callable[[JobEvent], None]
    ) -> JobResult:
        def tell(event: Event) -> None:
            self.pace.see(event)
            on_event(event)

        try:
            try:
                return await (await self._connected()).run(request, tensors, tell)
            except ConnectionLost as lost:
                if self._closed:
                    raise
                # A job has no side effects, so it can run again; once, because
                # a job that ends the worker would end it every time.
                log.warning("%s It is sent once more.", lost.message)
                on_event(Lost(lost.message))
                return await (await self._connected_again(lost)).run(request, tensors, tell)
        except WireFormatError as error:
            raise WorkerError(say("The request cannot be sent: {why}.", why=error)) from error
        finally:
            self.pace.end()

    async def _connected_again(self, lost: ConnectionLost) -> Connection:
        """The connection to a worker that may be starting again somewhere else."""
        deadline = time.monotonic() + RETURN_SECONDS
        while True:
            try:
                return await self._connected()
            except NoWorker as error:
                if self._closed or self._process is not None:
                    raise  # the one that was started from here has said why it ended
                if time.monotonic() > deadline:
                    raise NoWorker(
                        say(
                            "{lost} It was not there again after {seconds:.0f} seconds.",
                            lost=lost.message,
                            seconds=RETURN_SECONDS,
                        ),
                        error.hint,
                    ) from error
            await asyncio.sleep(RETURN_POLL_SECONDS)

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._connection is None or self._connection.ended:
                try:
                    self._connection = await self._connect()
                except WorkerError as error:
                    self.problem = error
                    raise
                self.problem = None
                hello = self._connection.hello
                log.info(
                    "Connected to %s at %s: %s on %s",
                    hello.worker,
                    self.config.address,
                    hello.capabilities.model,
                    hello.capabilities.device,
                )
            return self._connection

    async def _connect(self) -> Connection:
        try:
            return await Connection.open(self.config)
        except NoWorker as error:
            if not (self.config.binary and self.config.is_on_this_machine):
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
        deadline = time.monotonic() + START_SECONDS
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
                elif status is not None:
                    raise NoWorker(
                        say(
                            "The worker that was started ended with status {status}.", status=status
                        ),
                        _end_of_log(process),
                    ) from error
                elif time.monotonic() > deadline:
                    raise NoWorker(
                        say(
                            "The worker that was started does not answer at {address} after "
                            "{seconds:.0f} seconds.",
                            address=self.config.address,
                            seconds=START_SECONDS,
                        ),
                        _end_of_log(process),
                    ) from error
            await asyncio.sleep(START_POLL_SECONDS)


def _end_of_log(process: WorkerProcess) -> str:
    return say("Its log, {path}, ends:\n{end}", path=process.log, end=process.log_tail())


_clients: dict[WorkerConfig, WorkerClient] = {}
_clients_lock = threading.Lock()


def known_client(config: WorkerConfig) -> WorkerClient | None:
    """The process's client for this worker, if anything has used it yet."""
    with _clients_lock:
        return _clients.get(config)


def client_for(config: WorkerConfig) -> WorkerClient:
    """The process's one client for this worker."""
    with _clients_lock:
        if config not in _clients:
            _clients[config] = WorkerClient(config)
        return _clients[config]
