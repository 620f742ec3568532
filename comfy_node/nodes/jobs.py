"""Runs a job for a node: interruptible, with progress, with torch tensors."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import torch
from server import PromptServer

from .. import wire
from ..texts import WorkerError, page_language, say, translated
from ..wire import WireTensor
from ..worker import tracing
from ..worker.job import JobEvent, JobResult, Notice
from .comfyui import client_of
from .inputs import finite, worker_model, worker_priority

POLL_SECONDS = 0.05
"""How often ComfyUI's interrupt flag is read, and the maximum delay of progress."""

TEXT_MESSAGE = "ovis-worker.text"
"""The type of the message on ComfyUI's websocket that shows a text on a node."""

_TORCH_TYPES = {
    wire.DType.F32: torch.float32,
    wire.DType.F16: torch.float16,
    wire.DType.BF16: torch.bfloat16,
    wire.DType.U8: torch.uint8,
}


def to_wire(name: str, tensor: torch.Tensor) -> WireTensor:
    """Converts a tensor to float32 for the wire; copies only if the type or layout differs.

    Raises :class:`WorkerError` if a value is NaN or infinite.
    """
    values = finite(name, tensor).contiguous()
    header = wire.TensorHeader(name, wire.DType.F32, list(values.shape))
    return WireTensor(header, memoryview(values.numpy()).cast("B"))


def from_wire(result: JobResult, name: str) -> torch.Tensor:
    """A tensor of the result on ComfyUI's device for intermediate values; no copy on a CPU.

    Raises :class:`WorkerError` if the result has no tensor of that name.
    """
    tensor = result.tensors.get(name)
    if tensor is None:
        raise WorkerError(say("The worker's answer has no `{name}`.", name=name))
    kind = _TORCH_TYPES[tensor.header.dtype]
    values = torch.frombuffer(tensor.data, dtype=kind).reshape(tensor.header.shape)
    return values.to(comfy.model_management.intermediate_device())


def job_options(worker: object, span: tracing.Span | None = None) -> wire.JobOptions:
    """How the jobs on the worker of a `worker` input are to be run, as part of a span's trace.

    The client adds what depends on the worker, such as whether states are sent.
    """
    trace = span.traceparent if span else None
    return wire.JobOptions(worker_priority(worker), trace=trace, model=worker_model(worker))


async def run_job(
    worker: object,
    node_id: str,
    request: object,
    tensors: Sequence[WireTensor] = (),
    on_progress: Callable[[wire.Progress | wire.Preview], None] = lambda _: None,
) -> JobResult:
    """Runs a job on the worker that a `worker` input names.

    ComfyUI's interrupt cancels the job, also while it is queued or the client is connecting.
    ``on_progress`` is called in this task, where ComfyUI knows which node is executing. Raises
    :class:`WorkerError` if the job fails.
    """
    events: queue.SimpleQueue[JobEvent] = queue.SimpleQueue()

    def show_events() -> None:
        while not events.empty():
            event = events.get()
            if isinstance(event, Notice):
                show_text(node_id, event.message)
            elif isinstance(event, wire.Queued) and event.position > 0:
                show_text(node_id, _waiting_behind(event.position))
            else:
                show_text(node_id)
            if isinstance(event, wire.Progress | wire.Preview):
                on_progress(event)

    # ComfyUI runs one prompt at a time, and names it here.
    prompt_id = getattr(PromptServer.instance, "last_prompt_id", None)
    with tracing.job_span(wire.OPERATIONS[type(request)], node_id, prompt_id) as span:
        options = job_options(worker, span)
        future = client_of(worker).submit(request, tensors, events.put, options)
        try:
            return await wait_for(future, show_events)
        finally:
            show_text(node_id)


async def wait_for(
    future: concurrent.futures.Future, on_poll: Callable[[], None] = lambda: None
) -> Any:
    """Awaits the future; an interrupt, or the end of the prompt, cancels it.

    ComfyUI maps a list over a node as concurrent tasks of the prompt's loop. The first task that
    reads the interrupt flag clears it, so the flag is shared here by all tasks of the loop.
    """
    global _interrupted
    loop = asyncio.get_running_loop()
    waiting = asyncio.wrap_future(future)
    try:
        while True:
            done, _ = await asyncio.wait([waiting], timeout=POLL_SECONDS)
            if _interrupted is loop:
                raise comfy.model_management.InterruptProcessingException
            try:
                comfy.model_management.throw_exception_if_processing_interrupted()
            except comfy.model_management.InterruptProcessingException:
                _interrupted = loop
                raise
            on_poll()
            if done:
                return waiting.result()
    finally:
        waiting.cancel()


async def connect(worker: object, node_id: str) -> wire.WorkerHello:
    """The hello of the worker that a `worker` input names; the node shows a lost connection.

    Raises :class:`WorkerError` if the worker cannot be reached.
    """
    notices: queue.SimpleQueue[Notice] = queue.SimpleQueue()

    def show_notices() -> None:
        while not notices.empty():
            show_text(node_id, notices.get().message)

    try:
        return await wait_for(client_of(worker).connect(notices.put), show_notices)
    finally:
        show_text(node_id)


def _waiting_behind(jobs: int) -> str:
    if jobs == 1:
        return say("Waiting for the worker: 1 job runs before this one.")
    return say("Waiting for the worker: {jobs} jobs run before this one.", jobs=jobs)


def show_text(node_id: str, *texts: str) -> None:
    """Shows texts on the node; without texts, removes what was shown before."""
    text = "\n".join(translated(one, page_language.current()) for one in texts)
    if text:
        _with_text.add(node_id)
    elif node_id not in _with_text:
        return
    else:
        _with_text.discard(node_id)
    # `web/js/node_text.js` shows the text in a panel of its own, because newer frontends clear
    # ComfyUI's text preview when the prompt ends.
    server = PromptServer.instance
    server.send_sync(TEXT_MESSAGE, {"node": node_id, "text": text}, server.client_id)


_with_text: set[str] = set()
_interrupted: asyncio.AbstractEventLoop | None = None
"""The loop of the prompt that was interrupted last."""
