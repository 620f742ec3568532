"""Keeps the connection to one worker: opens it, starts the worker if need be, and reconnects.

All jobs of a client share the connection, and each attempt to open one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from .. import wire
from ..settings.config import WorkerConfig
from ..settings.secret import Secret
from ..texts import Sentence, WorkerError, printable, say
from . import process as worker_process
from . import start_failure
from .backoff import pause, retry_pause
from .connection import Connection
from .debts import Debts
from .errors import NoWorker, StartFailed
from .job import Notice
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


class Link:
    """The connection to one worker. It belongs to one event loop."""

    def __init__(self, config: WorkerConfig, owner: Secret, debts: Debts) -> None:
        self.config = config
        self.problem: WorkerError | None = None
        """Why the last attempt to connect failed, or ``None`` if it succeeded."""
        self.is_closed = False
        self.process: WorkerProcess | None = None
        """The worker's process, if it was started from here."""
        self.connection: Connection | None = None
        self._owner = owner
        self._debts = debts
        self._attempt: asyncio.Task[Connection] | None = None
        self._attempt_may_start = False
        self._failures = 0
        self._pause = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether a connection is open."""
        return self.connection is not None and self.connection.usable

    @property
    def is_starting(self) -> bool:
        """Whether a worker was started that does not answer yet."""
        process = self.process
        if process is None or self.is_connected:
            return False
        tries = self._attempt is not None and not self._attempt.done()
        return process.exit_code is None or (process.found_another and tries)

    async def close(self) -> None:
        """Closes the connection, and opens no other one."""
        self.is_closed = True
        if self.connection:
            await self.connection.close()

    async def connect(self, tell: Callable[[Notice], None], *, is_told: bool = False) -> Connection:
        """The open connection or a new one.

        Waits for a worker whose connection was lost, and for one that asks to try again later, as
        long as the settings' patience lasts. ``tell`` gets the reason; ``is_told``: it has it.
        Raises :class:`WorkerError` if the worker cannot be reached.
        """
        full_since: float | None = None
        while True:
            try:
                return await self.connect_once(may_start=True)
            except StartFailed:
                raise
            except WorkerError as error:
                if self.is_closed:
                    raise
                if error.retry_after is not None:
                    full_since = full_since or time.monotonic()
                    delay = wait_while_full(error, full_since, self.config, tell)
                    is_told = False
                else:
                    self._check_patience(error, is_told)
                    if not is_told:
                        is_told = True
                        tell(Notice(self._reconnecting()))
                    delay = self._pause
            await asyncio.sleep(delay)

    async def connect_once(self, *, may_start: bool) -> Connection:
        """The open connection or a new one, in one attempt that all callers share."""
        while True:
            if self.is_connected and not worker_process.is_stopping(self.config):
                return self.connection
            attempt = self._attempt
            if attempt is None or attempt.done():
                attempt = self._attempt = asyncio.create_task(self._try(may_start))
                self._attempt_may_start = may_start
                attempt.add_done_callback(_retrieve)
            enough = self._attempt_may_start or not may_start
            try:
                # An attempt goes on when the job that began it is interrupted.
                return await asyncio.shield(attempt)
            except WorkerError:
                if enough:
                    raise

    def _check_patience(self, error: WorkerError, is_told: bool) -> None:
        """Raises unless the worker may come back."""
        is_away = isinstance(error, NoWorker) or error.code == wire.ErrorCode.SHUTTING_DOWN
        lost_at = self.connection.lost_at if self.connection else None
        if not is_away or lost_at is None:
            raise error
        if time.monotonic() > lost_at + self.config.patience:
            if not is_told:
                raise error
            raise NoWorker(
                say(
                    "{lost} Still unreachable after {time}.",
                    lost=self._lost(),
                    time=duration(self.config.patience),
                ),
                error.hint,
            ) from error

    def _lost(self) -> Sentence:
        return say(
            "The connection to the worker at {address} was lost.", address=self.config.address
        )

    def _reconnecting(self) -> Sentence:
        return say(
            "{lost} Trying to reconnect for up to {time}.",
            lost=self._lost(),
            time=duration(self.config.patience),
        )

    async def _try(self, may_start: bool) -> Connection:
        try:
            connection = await self._open(may_start)
        except WorkerError as error:
            self.problem = error
            self._failures += 1
            self._pause = pause(self._failures)
            raise
        self.problem, self._failures, self.connection = None, 0, connection
        hello = connection.hello
        log.info(
            "Connected to %s at %s, which runs %s on %s",
            printable(hello.worker, 100),
            self.config.address,
            printable(hello.capabilities.model, 100),
            printable(hello.capabilities.device, 100),
        )
        return connection

    async def _open(self, may_start: bool) -> Connection:
        # A worker that was asked to stop still accepts connections, but refuses jobs.
        deadline = time.monotonic() + STOP_SECONDS
        while worker_process.is_stopping(self.config) and time.monotonic() < deadline:
            await asyncio.sleep(START_POLL_SECONDS)
        try:
            return await Connection.open(self.config, self._owner, self._debts)
        except NoWorker as error:
            if not (may_start and self.config.binary and self.config.is_on_this_machine):
                raise NoWorker(error.message, how_to_start(self.config)) from error
        # A worker that was started for an earlier, interrupted job may still be loading.
        process = self.process
        if process is None or process.exit_code is not None:
            process = self._start()
        return await self._wait_for_start(process)

    def _start(self) -> WorkerProcess:
        self.process = WorkerProcess(self.config)
        log.info("Started %s, which logs to %s", " ".join(self.process.command), self.process.log)
        return self.process

    async def _wait_for_start(self, process: WorkerProcess) -> Connection:
        started = time.monotonic()
        deadline = started + START_SECONDS
        while True:
            try:
                connection = await Connection.open(self.config, self._owner, self._debts)
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


def wait_while_full(
    error: WorkerError, since: float, config: WorkerConfig, tell: Callable[[Notice], None]
) -> float:
    """Seconds to wait for a worker that has been full since then.

    Raises ``error`` if the wait would exceed the settings' patience.
    """
    delay = retry_pause(error.retry_after)
    if time.monotonic() + delay > since + config.patience:
        raise error
    tell(Notice(say("The worker is full; trying again in {seconds:.0f} s.", seconds=delay)))
    return delay


def duration(seconds: float) -> Sentence:
    """A time for a person, in seconds or, from two minutes on, in minutes."""
    if seconds < 120:
        return say("{seconds:.0f} seconds", seconds=seconds)
    return say("{minutes:.0f} minutes", minutes=seconds / 60)


def _retrieve(attempt: asyncio.Task) -> None:
    """Marks an attempt's error as seen, because those who began it may have left."""
    if not attempt.cancelled():
        attempt.exception()
