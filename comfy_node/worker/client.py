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
from typing import Any

from .. import wire
from ..settings.config import WorkerConfig
from ..settings.identity import identity
from ..texts import WorkerError, say
from ..wire import WireFormatError, WireTensor
from .backoff import pause
from .connection import not_encodable
from .debts import CANCEL_PATIENCE_SECONDS, Debts
from .errors import ConnectionLost, NoWorker
from .job import Job, JobEvent, JobResult, Listener, Notice, unexpected_error
from .job_id import Work, job_name
from .link import Link, wait_while_full
from .pace import Pace
from .persistence import Persistence

log = logging.getLogger("ovis-worker")

CLOSE_SECONDS = 1.0


class WorkerClient:
    """Runs jobs on one worker. Connects when a job needs it, and reconnects after a loss."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self._loop = asyncio.new_event_loop()
        self.pace = Pace()
        self._debts = Debts()
        self._owner = identity(config.folder)
        self._link = Link(config, self._owner, self._debts)
        self._jobs: dict[bytes, Job] = {}
        """The jobs in flight, by the digest of their work."""
        self._settling: asyncio.Task | None = None
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
        options: wire.JobOptions | None = None,
    ) -> concurrent.futures.Future[JobResult]:
        """Submits a job; ``on_event`` is called on the client's thread.

        The future raises :class:`WorkerError`. Cancelling it cancels the job on the worker, unless
        an equal job is in flight: equal jobs are computed once, with the first one's ``options``.
        The tensors' bytes must not change until it is done.
        """
        return self._schedule(self._run(request, tensors, on_event, options or wire.JobOptions()))

    def connect(
        self, on_event: Callable[[JobEvent], None] = lambda _: None
    ) -> concurrent.futures.Future[wire.WorkerHello]:
        """Connects to the worker; starts it first if it is not running and may be started."""

        async def hello() -> wire.WorkerHello:
            return (await self._link.connect(on_event)).hello

        return self._schedule(hello())

    def adapters(self) -> concurrent.futures.Future[list[wire.AdapterInfo]]:
        """The worker's adapters that fit its model. A worker that is not running is not started."""

        async def listed() -> list[wire.AdapterInfo]:
            connection = await self._link.connect_once(may_start=False)
            return await connection.adapters()

        return self._schedule(listed())

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""
        return self._link.is_connected

    @property
    def starting(self) -> bool:
        """Whether a worker was started that does not answer yet."""
        return self._link.is_starting

    @property
    def problem(self) -> WorkerError | None:
        """Why the last attempt to connect failed, or ``None`` if it succeeded."""
        return self._link.problem

    def close(self) -> None:
        """Closes the connection and ends the thread.

        A worker that was started keeps running, and jobs that it has accepted go on there.
        """

        async def end() -> None:
            # Closing the connection has failed the running jobs. Cancel those that still connect,
            # and close what was opened meanwhile to tell the worker what is due.
            own = asyncio.current_task()
            await self._link.close()
            while jobs := asyncio.all_tasks() - {own}:
                _, stuck = await asyncio.wait(jobs, timeout=CLOSE_SECONDS)
                for job in stuck:
                    job.cancel()
                await asyncio.gather(*stuck, return_exceptions=True)
                await self._link.close()

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
        """Awaits ``work``, and counts it until then as unfinished."""
        try:
            return await _readable(work)
        finally:
            with self._scheduling:
                self._unfinished -= 1
                over = self._retired and self._unfinished == 0
            if over:
                threading.Thread(target=self.close, daemon=True).start()

    async def _run(
        self,
        request: object,
        tensors: Sequence[WireTensor],
        on_event: Callable[[JobEvent], None],
        options: wire.JobOptions,
    ) -> JobResult:
        work = await Work.of(request, tensors, options.model)
        job = self._jobs.get(work.digest)
        if job is None:
            job = self._jobs[work.digest] = Job(work, options)
            job.task = asyncio.create_task(_readable(self._drive(job)))
            job.task.add_done_callback(job.settle)
        listener = Listener(on_event)
        job.join(listener)
        try:
            return await listener.future
        finally:
            job.leave(listener)
            if not job.listeners:
                # A job that is asked for from now on is a new one.
                self._forget(job)

    def _forget(self, job: Job) -> None:
        if self._jobs.get(job.work.digest) is job:
            del self._jobs[job.work.digest]

    async def _drive(self, job: Job) -> JobResult:
        """Runs a job to its end, over as many connections as that takes."""

        def tell(notice: Notice) -> None:
            self.pace.end()
            job.report(notice)

        job.on_report = self.pace.observe
        persistence = Persistence(self.config, job)
        full_since: float | None = None
        is_told = False
        try:
            while True:
                connection = await self._link.connect(tell, is_told=is_told)
                is_told = False
                job.rename(job_name(self._owner, job.work, connection.hello))
                await connection.settle_debts()
                await self._debts.settled(job.name, connection.uptime)
                await connection.settle_debts()
                try:
                    result = await connection.run(job)
                except ConnectionLost as lost:
                    if self._closed:
                        raise
                    tell(Notice(persistence.after_loss(lost)))
                    is_told = True
                    log.warning("%s", lost.message)
                    await asyncio.sleep(pause(max(1, persistence.losses)))
                except WorkerError as error:
                    if not job.has_ended:
                        raise
                    self._acknowledge(job)
                    if error.code == wire.ErrorCode.QUEUE_FULL and error.retry_after is not None:
                        if job.is_accepted:  # its result found no room
                            persistence.count(error)
                            full_since = None
                        full_since = full_since or time.monotonic()
                        delay = wait_while_full(error, full_since, self.config, tell)
                    else:
                        await persistence.after_error(error, connection)
                        delay = pause(persistence.losses) if persistence.losses else 0.0
                    job.forget_submission()
                    await asyncio.sleep(delay)
                else:
                    self._acknowledge(job)
                    return result
        except (ConnectionLost, NoWorker):
            raise  # the worker may still have the job, and the next attempt finds it there
        except BaseException:
            if job.has_ended:
                self._acknowledge(job)
            elif job.is_sent:
                self._debts.cancel(job.name)
            raise
        finally:
            self._settle_debts()
            self._forget(job)
            self.pace.end()

    def _acknowledge(self, job: Job) -> None:
        """Remembers that the end of a job has arrived here, once for each end."""
        if not job.is_acknowledged:
            job.is_acknowledged = True
            self._debts.acknowledge(job.name)

    def _settle_debts(self) -> None:
        """Tells the worker what is due, now or after a reconnect within a minute."""
        if not self._closed and (self._settling is None or self._settling.done()):
            self._settling = asyncio.create_task(self._settle())

    async def _settle(self) -> None:
        deadline = time.monotonic() + CANCEL_PATIENCE_SECONDS
        failures = 0
        while self._debts.are_pending and time.monotonic() < deadline:
            try:
                connection = await self._link.connect_once(may_start=False)
                await connection.settle_debts()
            except WorkerError as error:
                log.debug("The worker could not be told about a job: %s", error)
            failures += 1
            await asyncio.sleep(pause(failures) if self._debts.are_pending else 0)


async def _readable(work: Coroutine[Any, Any, Any]) -> Any:
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
