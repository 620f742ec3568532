"""A worker that is killed at any step of a denoise job finishes it with the same bits."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from comfy_node import wire
from soak.restart import denoise, durable_worker, inputs, interrupted, killed_once, prepare
from soak.supervisor import Supervisor, files_in
from soak.wire_client import JobFailed, WireClient
from worker_binary import binary, free_port

STEPS = 12
EACH_STEP = range(1, STEPS)


@pytest.mark.parametrize(
    ("sampler", "cache"),
    [
        ("euler", wire.StepCaching.FAST),
        ("dpmpp_2m_sde", wire.StepCaching.SAFE),
        ("uni_pc", wire.StepCaching.OFF),
    ],
)
def test_a_job_that_is_killed_at_any_of_its_steps(
    tiny: Path, tmp_path: Path, sampler: str, cache: wire.StepCaching
) -> None:
    async def run() -> None:
        with durable_worker(binary(), tmp_path, tiny / "diffusers") as worker:
            conditioning, _ = await prepare(worker)
            request, tensors = denoise(sampler, cache, STEPS), inputs(conditioning)
            whole = await interrupted(worker, request, tensors, [])
            for step in EACH_STEP:
                # Each of them has gone on from a written state, or this raises.
                for one in await killed_once(worker, request, tensors, step):
                    assert one.latent == whole.latent, f"killed after step {step}"
            # No job leaves anything behind.
            deadline = time.monotonic() + 30
            while left := files_in(worker.state / "jobs"):
                assert time.monotonic() < deadline, left
                await asyncio.sleep(0.05)

    asyncio.run(run())


def test_a_job_that_is_killed_again_and_again(tiny: Path, tmp_path: Path) -> None:
    """Each process makes progress, so the job is not given up, however often it is killed."""

    async def run() -> None:
        with durable_worker(binary(), tmp_path, tiny / "diffusers") as worker:
            conditioning, _ = await prepare(worker)
            request, tensors = denoise("heun", wire.StepCaching.OFF, 60), inputs(conditioning)
            whole = await interrupted(worker, request, tensors, [])
            killed = await interrupted(worker, request, tensors, range(1, 60, 4))
            assert killed.latent == whole.latent
            # More often than a job may end a process without progress.
            assert worker.ledger()[killed.job].resumed > 3
            assert killed.resumed_after == sorted(killed.resumed_after)
            assert killed.resumed_after[-1] > 4

    asyncio.run(run())


def test_without_a_state_folder_the_job_is_lost_with_its_worker(tiny: Path, tmp_path: Path) -> None:
    """What the test above would see if nothing were written: so it cannot pass by chance."""

    async def run() -> None:
        arguments = ["--model", tiny / "diffusers", "--device", "cpu"]
        with Supervisor(binary(), tmp_path, free_port(), *arguments) as worker:
            conditioning, _ = await prepare(worker)
            secret = bytes(range(32))
            async with WireClient(worker.url, "lost", secret) as client:
                job = await client.submit(
                    denoise("euler", wire.StepCaching.OFF, STEPS), inputs(conditioning)
                )
                while not isinstance(await client.receive(), wire.Progress):
                    pass
            worker.kill()
            worker.wait_until_ready()
            async with WireClient(worker.url, "lost", secret) as client:
                await client.send(wire.Claim(job, 0))
                with pytest.raises(JobFailed) as refused:
                    await client.receive()
            assert refused.value.error.code == wire.ErrorCode.UNKNOWN_JOB

    asyncio.run(run())
