"""A worker that is killed at any step of a denoise job finishes it with the same bits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from comfy_node import wire
from soak.restart import denoise, durable_worker, inputs, interrupted, prepare
from worker_binary import binary

STEPS = 12
EACH_STEP = list(range(1, STEPS))


@pytest.mark.parametrize(
    ("sampler", "cache"),
    [
        ("euler", wire.StepCaching.FAST),
        ("dpmpp_2m_sde", wire.StepCaching.SAFE),
        ("uni_pc", wire.StepCaching.OFF),
    ],
)
def test_a_job_that_is_killed_at_each_of_its_steps(
    tiny: Path, tmp_path: Path, sampler: str, cache: wire.StepCaching
) -> None:
    async def run() -> None:
        with durable_worker(binary(), tmp_path, tiny / "diffusers") as worker:
            conditioning, _ = await prepare(worker)
            request, tensors = denoise(sampler, cache, STEPS), inputs(conditioning)
            whole = await interrupted(worker, request, tensors, [])
            killed = await interrupted(worker, request, tensors, EACH_STEP)
            assert worker.kills == len(EACH_STEP)
            assert killed.latent == whole.latent
            # Each process went on from a state: the worker says so, and steps were not repeated
            # from the beginning.
            assert worker.ledger()[killed.job].resumed == len(EACH_STEP)
            assert killed.resumed_after == sorted(killed.resumed_after)
            assert killed.resumed_after[-1] >= STEPS - 2

    asyncio.run(run())


def test_without_a_state_folder_the_job_is_lost_with_its_worker(tiny: Path, tmp_path: Path) -> None:
    """What the test above would see if nothing were written: so it cannot pass by chance."""
    from soak.supervisor import Supervisor
    from soak.wire_client import JobFailed, WireClient
    from worker_binary import free_port

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
