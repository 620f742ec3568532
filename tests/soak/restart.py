"""SIGKILL at each step of a denoise job, and restart: the final latent has the same bits."""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import struct
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from comfy_node import wire
from comfy_node.wire import WireTensor
from worker_binary import free_port

from .images import CHANNELS, named
from .report import Report
from .supervisor import Supervisor
from .wire_client import ConnectionEnded, JobFailed, WireClient

TITLE = "Restart: SIGKILL at each step of a denoise job"
SIZES = ("steps", "samplers", "caches", "device", "precision")
BATCH = 2
SIDE = 96
"""Width and height in pixels."""
STATE_SECONDS = 10.0
"""How long to wait for the first state to be written."""
TRIES = 5
"""How often a kill may come too late, when the job has ended just before it."""
CACHES = [cache.name.lower() for cache in wire.StepCaching]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--samplers", nargs="+", help="default: all of the worker's")
    parser.add_argument("--caches", nargs="+", choices=CACHES, default=CACHES)
    parser.add_argument("--device", default="cpu", help="default: cpu")
    parser.add_argument("--precision", default="f32", help="default: f32")


@dataclass
class Outcome:
    """What became of a job that was interrupted."""

    latent: bytes
    resumed_after: list[int] = field(default_factory=list)
    """For each kill, how many steps the first message about a step after it counted."""
    job: str = ""


async def run(given: argparse.Namespace, binary: Path, folder: Path, report: Report) -> None:
    begun = time.monotonic()
    cases = resumed = wrong = lost = 0
    with durable_worker(binary, folder, given.model, given.device, given.precision) as worker:
        conditioning, samplers = await prepare(worker)
        for sampler in given.samplers or samplers:
            for cache in given.caches:
                request = denoise(sampler, wire.StepCaching[cache.upper()], given.steps)
                tensors = inputs(conditioning)
                whole = await interrupted(worker, request, tensors, [])
                each_step = range(1, given.steps)
                # One kill for each job, and then one job that is killed again and again.
                for at in [*([step] for step in each_step), list(each_step)]:
                    where = f"{sampler}, cache {cache}, killed at {at}"
                    try:
                        if len(at) == 1:
                            ended = await killed_once(worker, request, tensors, at[0])
                            resumed += 1
                        else:
                            ended = [await interrupted(worker, request, tensors, at)]
                    except (JobFailed, ConnectionEnded, AssertionError) as error:
                        lost += 1
                        print(f"{where}: {error}", flush=True)
                        continue
                    if any(one.latent != whole.latent for one in ended):
                        wrong += 1
                        print(f"{where}: differs", flush=True)
                cases += 1
                print(f"{sampler}, cache {cache}: done", flush=True)
        kills = worker.kills
    report.note("samplers × caches", cases)
    report.note("steps of each job", given.steps)
    report.note("batch, with a mask and guidance", BATCH)
    report.note("worker killed", kills, "times")
    report.at_most("jobs that were lost", lost, 0)
    single = cases * (given.steps - 1)
    report.equal("jobs killed once that went on from a written state", resumed, single)
    report.at_most("latents that differ in any bit", wrong, 0)
    report.note("seconds", time.monotonic() - begun, "s")


def durable_worker(
    binary: Path, folder: Path, model: Path, device: str = "cpu", precision: str = "f32"
) -> Supervisor:
    """A worker that writes the state of a job after each step."""
    arguments = ["--model", model, "--device", device]
    arguments += ["--precision", precision, "--checkpoint-steps", 1]
    return Supervisor(binary, folder / "worker", free_port(), *arguments, state=folder / "state")


async def prepare(worker: Supervisor) -> tuple[WireTensor, list[str]]:
    """The conditioning of a prompt and of an empty one, and the worker's samplers."""
    async with WireClient(worker.url, "restart") as client:
        (both,) = await client.run(wire.EncodeRequest(["a red fox", ""], 32))
        return both, client.hello.capabilities.samplers


def denoise(sampler: str, cache: wire.StepCaching, steps: int) -> wire.DenoiseRequest:
    """A guided denoise job."""
    return wire.DenoiseRequest(
        7, steps, 2.5, sampler, wire.AutoSchedule(), denoise=0.9, cache=cache
    )


def inputs(conditioning: WireTensor) -> list[WireTensor]:
    """The tensors of :func:`denoise`: conditioning, a latent that is not empty, and a mask."""
    half = len(conditioning.data) // 2
    header = wire.TensorHeader("", conditioning.header.dtype, [1, *conditioning.header.shape[1:]])
    positive = WireTensor(header, conditioning.data[:half])
    negative = WireTensor(header, conditioning.data[half:])
    side, draws = SIDE // 8, random.Random(0)
    latent = floats(draws, [BATCH, CHANNELS, side, side])
    mask = floats(draws, [1, side, side])
    tensors = {"positive": positive, "negative": negative, "latent": latent, "noise_mask": mask}
    return [named(name, tensor) for name, tensor in tensors.items()]


def floats(draws: random.Random, shape: list[int]) -> WireTensor:
    """A tensor of values from 0 to 1."""
    header = wire.TensorHeader("", wire.DType.F32, shape)
    count = wire.transfer.byte_length(header) // header.dtype.size
    return WireTensor(header, struct.pack(f"<{count}f", *(draws.random() for _ in range(count))))


async def interrupted(
    worker: Supervisor,
    request: wire.DenoiseRequest,
    tensors: Sequence[WireTensor],
    kill_at: Sequence[int],
) -> Outcome:
    """Runs a job; kills the worker once each of these steps has ended, and claims the job again.

    The worker goes on while the client connects again, so the job may end before all kills are
    made; the others are left out then.
    """
    secret = secrets.token_bytes(32)
    outcome = Outcome(b"")
    job: bytes | None = None
    for number in range(len(kill_at) + 1):
        async with WireClient(worker.url, "restart", secret) as client:
            if job is None:
                job = await client.submit(request, tensors)
                outcome.job = str(uuid.UUID(bytes=job))
            else:
                await client.send(wire.Claim(job, 0))
            seen_a_step = False
            async for message in client.until_done(job):
                if isinstance(message, list):
                    outcome.latent = bytes(message[0].data)
                elif isinstance(message, wire.Progress):
                    if number and not seen_a_step:
                        outcome.resumed_after.append(message.step)
                    seen_a_step = True
                    if number < len(kill_at) and message.step >= kill_at[number]:
                        await _kill(worker, outcome.job)
                        break
        if outcome.latent:
            break
    return outcome


async def killed_once(
    worker: Supervisor, request: wire.DenoiseRequest, tensors: Sequence[WireTensor], step: int
) -> list[Outcome]:
    """Runs jobs that are killed at one step, until one has gone on from a written state.

    Raises :class:`AssertionError` if none does.
    """
    outcomes = []
    for _ in range(TRIES):
        first = worker.starts
        outcomes.append(await interrupted(worker, request, tensors, [step]))
        if worker.ledger(first)[outcomes[-1].job].resumed == 1:
            return outcomes
    raise AssertionError(f"no job went on from a written state after step {step}")


async def _kill(worker: Supervisor, job: str) -> None:
    """Kills the worker once a state of the job is written, and waits until it is back."""
    deadline = time.monotonic() + STATE_SECONDS
    name = f"*{uuid.UUID(job).hex}.state"
    while not list(worker.state.rglob(name)):
        assert time.monotonic() < deadline, f"no state of job {job} in {worker.state}"
        await asyncio.sleep(0.001)
    await asyncio.to_thread(worker.kill)
    await asyncio.to_thread(worker.wait_until_ready)
