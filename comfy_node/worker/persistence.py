"""Decides whether a job is sent again after a loss, and when it has been tried often enough."""

from __future__ import annotations

import time

from .. import wire
from ..settings.config import WorkerConfig
from ..texts import Sentence, WorkerError, say
from .connection import CancelledThere, Connection
from .errors import ConnectionLost
from .job import Job
from .link import duration

MAX_DEATHS = 2
"""How often a job is sent again after a worker has ended while it ran the job, without progress."""
MAX_LOSSES = 10
"""The number of losses in a row, without progress, after which a job fails."""


class Persistence:
    """Counts the losses of one job."""

    def __init__(self, config: WorkerConfig, job: Job) -> None:
        self.losses = 0
        """Losses in a row without progress."""
        self._config = config
        self._job = job
        self._deaths = 0
        self._step_at_death = -1
        self._leaving_since: float | None = None
        self._was_announced = False

    def after_loss(self, lost: ConnectionLost) -> Sentence:
        """Counts a lost connection. Returns what the node shows; raises ``lost`` to give up."""
        job = self._job
        self._was_announced = lost.announced
        if lost.announced:
            # A worker that is shutting down may refuse new jobs for a while.
            now = time.monotonic()
            self._leaving_since = self._leaving_since or now
            if now - self._leaving_since > self._config.patience:
                raise lost
            return say("{lost} Waiting for it to answer again.", lost=lost.message)
        self._leaving_since = None
        self.count(lost)
        lost_sentence = say(
            "The connection to the worker at {address} was lost.", address=self._config.address
        )
        time_left = duration(self._config.patience)
        if job.is_accepted:
            return say(
                "{lost} The job goes on there; trying to reconnect for up to {time}.",
                lost=lost_sentence,
                time=time_left,
            )
        return say(
            "{lost} The job is sent when the worker answers again, within {time}.",
            lost=lost_sentence,
            time=time_left,
        )

    async def after_error(self, error: WorkerError, connection: Connection) -> None:
        """Returns if the job is to be submitted again; otherwise raises."""
        job = self._job
        if error.code in (wire.ErrorCode.UNKNOWN_JOB, wire.ErrorCode.EXPIRED):
            if job.started_at is not None and error.code == wire.ErrorCode.UNKNOWN_JOB:
                await self._check_worker_survived(connection)
            self.count(error)
        elif isinstance(error, CancelledThere):
            # The end of an earlier job with the same name, which was cancelled here.
            self.count(error)
        elif error.code == wire.ErrorCode.INVALID_REQUEST and job.with_state:
            job.state.complete = None  # another version's state: begin anew
        else:
            raise error

    def count(self, error: WorkerError) -> None:
        """Counts a loss; raises ``error`` after too many in a row without progress."""
        if self._job.advanced:
            self.losses = 0
        self.losses += 1
        if self.losses > MAX_LOSSES:
            raise error

    async def _check_worker_survived(self, connection: Connection) -> None:
        """Raises if the worker's process has died too often while it ran the job."""
        if self._was_announced:
            return
        uptime = await connection.uptime()
        # A process that was started before the job did not die with it.
        if uptime is not None and time.monotonic() - uptime < self._job.started_at:
            return
        if self._job.step > self._step_at_death:
            self._deaths = 0
        self._step_at_death = self._job.step
        self._deaths += 1
        if self._deaths > MAX_DEATHS:
            raise WorkerError(
                say(
                    "The worker exited while it ran this job. The job was not sent again, because "
                    "it may be the cause."
                ),
                say("Queue the workflow again to retry."),
            )
