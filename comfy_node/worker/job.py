"""One job of this client, from the first node that asks for it until its end.

A job outlives connections: what has arrived of its result and of its state stays here while the
client reconnects. Several nodes may wait for the same job.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from .. import wire
from ..texts import WorkerError, printable, say
from ..wire import WireFormatError, WireTensor, transfer
from .job_id import Work

log = logging.getLogger("ovis-worker")

STATE_SECONDS = 15.0
"""How often a denoise job's state is asked for, if the worker keeps none on disk."""


@dataclass
class Notice:
    """Event: the job waits for the worker, for the reason that the message gives."""

    message: str


JobEvent = wire.Queued | wire.Started | wire.Progress | wire.Preview | Notice
"""What a job reports while it runs or waits for the worker."""


@dataclass
class JobResult:
    """A finished job's tensors by name, and its outcome."""

    tensors: dict[str, WireTensor]
    outcome: wire.Outcome


def unexpected_error(error: BaseException) -> WorkerError:
    """Wraps an exception that no code handles in a sentence."""
    kind = type(error).__name__
    return WorkerError(
        say("The job failed in the node pack: {why} ({kind}).", why=printable(error), kind=kind),
        say("ComfyUI's log has the details."),
    )


class StateBuffer:
    """The newest complete state of a denoise job, and the parts of the one that is arriving."""

    def __init__(self) -> None:
        self.complete: bytes | None = None
        self._arriving = bytearray()
        self._of: tuple[int, int] | None = None

    def push(self, part: wire.State) -> None:
        """Takes the next part; a part that does not follow the one before it is dropped."""
        if part.offset == 0:
            self._arriving, self._of = bytearray(), (part.step, part.size)
        if (part.step, part.size) != self._of or part.offset != len(self._arriving):
            self._arriving, self._of = bytearray(), None
            return
        if not len(self._arriving) + len(part.data) <= part.size <= wire.MAX_TENSOR_BYTES:
            raise WireFormatError(f"a state of {part.size} bytes does not fit its parts")
        self._arriving += part.data
        if len(self._arriving) == part.size:
            self.complete = bytes(self._arriving)
            self._arriving, self._of = bytearray(), None

    def tensor(self) -> WireTensor | None:
        """The complete state as the tensor `state`; ``None`` if there is none."""
        if not self.complete:
            return None
        header = wire.TensorHeader("state", wire.DType.U8, [len(self.complete)])
        return WireTensor(header, self.complete)


class Listener:
    """A node that waits for a job: the events go to ``on_event``, the end to ``future``."""

    def __init__(self, on_event: Callable[[JobEvent], None]) -> None:
        self.on_event = on_event
        self.future: asyncio.Future[JobResult] = asyncio.get_running_loop().create_future()

    def tell(self, event: JobEvent) -> None:
        """Passes an event on. If the callback raises, this listener fails and no other does."""
        if self.future.done():
            return
        try:
            self.on_event(event)
        except Exception as error:
            log.exception("An event of a job could not be displayed.")
            self.future.set_exception(unexpected_error(error))


class Job:
    """What one worker is to compute, and what is known about it here."""

    def __init__(self, work: Work, options: wire.JobOptions) -> None:
        self.work = work
        self.name: bytes | None = None
        """Its UUID on the worker; ``None`` until the worker's hello is known."""
        self.state = StateBuffer()
        self.step = 0
        """The furthest step that it has reached, over all of its submissions."""
        self.task: asyncio.Task | None = None
        self.listeners: list[Listener] = []
        self.last_heard = time.monotonic()
        """When a message about it arrived, by ``time.monotonic``."""
        self._options = options
        self._recent: list[JobEvent] = []
        self.end: asyncio.Future[JobResult] | None = None
        """The end of the job on the present connection."""
        self.is_claim = False
        self.with_state = False
        """Whether it goes on from a state that was sent with it."""
        self.advanced = False
        """Whether it has come further on the present connection."""
        self.on_report: Callable[[JobEvent], None] = lambda _: None
        """Called with each event before the listeners."""
        self.has_ended = False
        """Whether its end, though maybe not all of its result, came on the present connection."""
        self.forget_submission()

    def forget_submission(self) -> None:
        """The worker no longer has the job, so that it is submitted anew."""
        self.is_uploaded = False
        """Whether all of it was sent."""
        self.is_accepted = False
        """Whether the worker has answered that it has all of it."""
        self.is_sent = False
        """Whether the worker may have it."""
        self.is_acknowledged = False
        self.started_at: float | None = None
        """When it began to run on the device, by ``time.monotonic``."""
        self.outcome: wire.Outcome | None = None
        self.assembler: transfer.Assembler | None = None

    def rename(self, name: bytes) -> None:
        """Gives the job its name on a worker; under another name, it begins anew."""
        if name != self.name:
            self.name = name
            self.state = StateBuffer()
            self.forget_submission()

    def begin(self) -> asyncio.Future[JobResult]:
        """Begins on a connection: claims the job if all of it was sent before."""
        self.end = asyncio.get_running_loop().create_future()
        self.is_claim = self.is_uploaded
        self.is_sent = True
        self.has_ended = False
        self.advanced = False
        self.last_heard = time.monotonic()
        return self.end

    def claim(self) -> wire.Claim:
        """The message that takes the job over, and asks for the rest of its result."""
        return wire.Claim(self.name, self.assembler.received if self.assembler else 0)

    def tensors(self) -> list[WireTensor]:
        """The tensors to send: those of the work and, if there is one that fits, its state."""
        state = self.state.tensor()
        tensors = [*self.work.tensors, *([state] if state else [])]
        try:
            transfer.check_set([tensor.header for tensor in tensors])
        except WireFormatError:
            tensors, state = list(self.work.tensors), None
        self.with_state = state is not None
        return tensors

    def options(self, keeping: wire.Keeping) -> wire.JobOptions:
        """The options for a worker that keeps jobs in this way."""
        asks = isinstance(self.work.request, wire.DenoiseRequest) and not keeping.is_durable
        state = wire.StateInterval(0, STATE_SECONDS) if asks else None
        return dataclasses.replace(self._options, state=state)

    def fail(self, error: BaseException) -> None:
        """Ends the job on the present connection with an error."""
        if self.end is not None and not self.end.done():
            self.end.set_exception(error)

    def report(self, event: JobEvent) -> None:
        """Passes an event on to all listeners."""
        if not isinstance(event, Notice):
            self.is_accepted = True
            self.advanced = self.advanced or self.is_claim
        if isinstance(event, wire.Started) and self.started_at is None:
            self.started_at = time.monotonic()
        if isinstance(event, wire.Progress):
            self.advanced = self.advanced or event.step > self.step
            self.step = max(self.step, event.step)
            self._recent = [one for one in self._recent if isinstance(one, wire.Started)]
            self._recent.append(event)
        elif not isinstance(event, wire.Preview):
            self._recent = [event]
        try:
            self.on_report(event)
        except Exception as error:
            log.exception("An event of a job could not be counted.")
            self.fail(unexpected_error(error))
        for listener in list(self.listeners):
            listener.tell(event)

    def result_begins(self, done: wire.Done) -> None:
        """Takes the announcement of the result, or takes it again after a claim."""
        self.has_ended = self.is_accepted = True
        self.outcome = done.outcome
        announced = transfer.Assembler(done.tensors)
        if self.assembler is None or not self.assembler.received:
            self.assembler = announced
        elif self.assembler.headers != done.tensors:
            raise WireFormatError("the result that is sent again has other tensors")
        self._finish_if_complete()

    def result_goes_on(self, chunk: wire.Chunk) -> None:
        """Takes a part of the result."""
        if self.assembler is None:
            raise WireFormatError("a chunk arrived before the message that its job is done")
        self.advanced = True
        self.assembler.push_new(chunk)
        self._finish_if_complete()

    def _finish_if_complete(self) -> None:
        if self.assembler.complete and not self.end.done():
            arrived = {tensor.header.name: tensor for tensor in self.assembler.finish()}
            self.end.set_result(JobResult(arrived, self.outcome))

    # Those who wait for it

    def join(self, listener: Listener) -> None:
        """Adds a listener, and tells it how far the job is."""
        self.listeners.append(listener)
        for event in self._recent:
            listener.tell(event)

    def leave(self, listener: Listener) -> None:
        """Removes a listener. Without any, the job is cancelled."""
        self.listeners.remove(listener)
        if not self.listeners and self.task is not None:
            self.task.cancel()

    def settle(self, task: asyncio.Task) -> None:
        """Passes the end of the job's task on to all listeners."""
        error = None if task.cancelled() else task.exception()
        for number, listener in enumerate(self.listeners):
            if listener.future.done():
                continue
            if task.cancelled():
                listener.future.cancel()
            elif error is not None:
                listener.future.set_exception(error)
            else:
                result = task.result()
                listener.future.set_result(_copy(result) if number else result)


def _copy(result: JobResult) -> JobResult:
    """A result with bytes of its own, because nodes may change theirs."""
    tensors = {
        name: WireTensor(tensor.header, bytearray(tensor.data))
        for name, tensor in result.tensors.items()
    }
    return JobResult(tensors, result.outcome)
