"""The jobs of the fake worker: how they are kept, and what comes out of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from comfy_node import wire
from comfy_node.wire import transfer

if TYPE_CHECKING:
    from fake_worker import FakeWorker, Session

WIDTH = 32
"""D of the conditionings it makes."""
STATE_BYTES = 3 << 20
"""The size of the states that it sends: several parts."""


@dataclass
class FakeJob:
    """A job as the worker keeps it, whatever becomes of its connection."""

    submit: wire.Submit
    arrays: dict[str, np.ndarray]
    data: bytes = b""
    """The bytes of all tensors, but not of a state."""
    step: int = 0
    """The last step that has ended."""
    is_started: bool = False
    position: int = 0
    end: object = None
    """Its `Done`, `Failed` or `Cancelled`."""
    result: list[transfer.WireTensor] = field(default_factory=list)
    session: Session | None = None
    task: asyncio.Task | None = None

    async def tell(self, message: object) -> None:
        """Sends a message to the connection that has the job, if there is one."""
        if self.session is not None:
            await self.session.send(message)


async def answer(worker: FakeWorker, job: FakeJob) -> tuple[wire.Outcome, str, np.ndarray]:
    """The outcome of a job, and the name and values of its tensor."""
    request, outcome, arrays = job.submit.request, wire.Outcome(0.0, 0.0, []), job.arrays
    if isinstance(request, wire.EncodeRequest):
        return outcome, "conditioning", await _encode(worker, job, request, outcome)
    if isinstance(request, wire.DenoiseRequest):
        await _denoise(worker, job, request)
        latent = arrays["latent"]
        if latent.shape[2] % 2 or latent.shape[3] % 2:
            raise Failure("Width and height must be multiples of 16.")
        draws = request.batch_index or range(len(latent))
        noise = [_noise(request.seed, draw, latent.shape[1:]) for draw in draws]
        mask = arrays.get("noise_mask", np.ones((1, 1, 1), "<f4"))[:, None]
        return outcome, "latent", latent + np.stack(noise) * mask * request.denoise
    if isinstance(request, wire.DecodeRequest):
        grey = arrays["latent"][:, :3].transpose(0, 2, 3, 1)
        return outcome, "image", np.clip(grey.repeat(8, 1).repeat(8, 2) / 4 + 0.5, 0, 1)
    image = arrays["image"][:, ::8, ::8].transpose(0, 3, 1, 2)
    return outcome, "latent", np.repeat(image, 6, 1)[:, :16]


async def _denoise(worker: FakeWorker, job: FakeJob, request: wire.DenoiseRequest) -> None:
    """Takes the steps of a job, from the one that a state names or at which it was ended."""
    if "state" in job.arrays:
        if worker.refuses_states:
            raise Failure("The state is of another version.")
        job.step = int(job.arrays["state"][0])
    worker.begun_at.append(job.step)
    name, options = job.submit.job, job.submit.options
    while job.step < request.steps:
        await asyncio.sleep(worker.step_seconds)
        job.step += 1
        await job.tell(wire.Progress(name, job.step, request.steps, 0.0, 0.0))
        if options.state is not None:
            state = bytes([job.step]) * STATE_BYTES
            for offset in range(0, STATE_BYTES, wire.MAX_CHUNK_BYTES):
                part = state[offset : offset + wire.MAX_CHUNK_BYTES]
                await job.tell(wire.State(name, job.step, STATE_BYTES, offset, part))
        if job.step in worker.dies_at:
            worker.dies_at.remove(job.step)
            worker.die()


async def _encode(
    worker: FakeWorker, job: FakeJob, request: wire.EncodeRequest, outcome: wire.Outcome
) -> np.ndarray:
    """The conditioning of prompts; some of them fail or hang up."""
    for index, prompt in enumerate(request.prompts):
        if prompt == "fail":
            raise Failure("The prompt asks to fail.")
        if prompt == "hang up" and worker.hang_ups > 0:
            worker.hang_ups -= 1
            await job.session.socket.close()
        lost = len(prompt.split()) - request.max_sequence_length
        if lost > 0:
            outcome.cuts.append(wire.PromptCut(index, lost, 5))
    values = [len(prompt) for prompt in request.prompts]
    shape = (len(values), request.max_sequence_length, WIDTH)
    return np.broadcast_to(np.array(values, "<f4")[:, None, None], shape)


class Failure(Exception):
    pass


def _noise(seed: int, draw: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng([seed, draw]).normal(size=shape)
