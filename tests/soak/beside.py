"""A short preview beside a long poster: how many of the poster's steps the preview waits for."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field

from comfy_node import wire

from .images import empty, named
from .wire_client import WireClient

POSTER_STEPS = 50
PREVIEW_STEPS = 4
POSTER_SIDE = 128
PREVIEW_SIDE = 64
BEGIN_AFTER = (4, 16, 28, 40)
"""Steps of the poster after which a preview is submitted."""
WAIT_SECONDS = 600.0


@dataclass
class _Seen:
    """The events of all jobs, in the order in which they arrived at this process."""

    events: list[tuple[bytes, object]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def read(self, client: WireClient) -> None:
        """Collects what arrives on one connection, until it is cancelled."""
        while True:
            message = await client.receive()
            job = getattr(message, "job", None)
            if job is None or isinstance(message, wire.Chunk):
                continue
            async with self.changed:
                self.events.append((job, message))
                self.changed.notify_all()

    async def until(self, job: bytes, is_it) -> None:
        """Waits for the first event of a job for which ``is_it`` is true."""
        async with self.changed:
            await self.changed.wait_for(
                lambda: any(one == job and is_it(message) for one, message in self.events)
            )


async def most_steps_waited(url: str) -> dict[str, int]:
    """The largest number of the poster's steps that one step of a preview waited for.

    The first step waits from the moment at which the preview is queued, the others from the end of
    the step before. Measured for previews of the poster's own client and of another one.
    """
    own, other = secrets.token_bytes(32), secrets.token_bytes(32)
    return {
        "same client": await _measure(url, own, own),
        "another client": await _measure(url, own, other),
    }


async def _measure(url: str, poster_owner: bytes, preview_owner: bytes) -> int:
    """Runs one poster and several previews, on one connection if the owner is the same."""
    seen = _Seen()
    async with WireClient(url, "poster", poster_owner) as poster:
        (positive,) = await poster.run(wire.EncodeRequest(["a red fox"], 32))

        def job(steps: int, side: int) -> tuple[object, list[wire.WireTensor]]:
            request = wire.DenoiseRequest(steps, steps, 1.0, "euler", wire.AutoSchedule())
            return request, [named("positive", positive), empty(side, side)]

        if preview_owner == poster_owner:
            return await _previews(seen, poster, poster, job)
        async with WireClient(url, "preview", preview_owner) as preview:
            return await _previews(seen, poster, preview, job)


async def _previews(seen: _Seen, poster: WireClient, preview: WireClient, job) -> int:
    readers = [asyncio.create_task(seen.read(client)) for client in {poster, preview}]
    running = asyncio.create_task(_run_previews(seen, poster, preview, job))
    try:
        await asyncio.wait(
            [running, *readers], timeout=WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        for reader in readers:
            if reader.done():
                reader.result()  # raises what ended it
        assert running.done(), "the poster and its previews did not end"
        large, small = running.result()
        return max(max(waits(seen.events, large, one)) for one in small)
    finally:
        for task in (running, *readers):
            task.cancel()
        await asyncio.gather(running, *readers, return_exceptions=True)


async def _run_previews(
    seen: _Seen, poster: WireClient, preview: WireClient, job
) -> tuple[bytes, list[bytes]]:
    large = await poster.submit(*job(POSTER_STEPS, POSTER_SIDE))
    small = []
    for step in BEGIN_AFTER:
        await seen.until(large, lambda m, step=step: getattr(m, "step", 0) >= step)
        small.append(await preview.submit(*job(PREVIEW_STEPS, PREVIEW_SIDE)))
        await seen.until(small[-1], lambda m: isinstance(m, wire.Done))
        await preview.send(wire.Acknowledge(small[-1]))
    await seen.until(large, lambda m: isinstance(m, wire.Done))
    await poster.send(wire.Acknowledge(large))
    return large, small


def waits(events: list[tuple[bytes, object]], large: bytes, small: bytes) -> list[int]:
    """For each step of the small job, how many steps of the large one ended while it waited."""
    counts: list[int] = []
    since: int | None = None
    for job, message in events:
        if job == large and isinstance(message, wire.Progress) and since is not None:
            since += 1
        elif job == small and isinstance(message, wire.Queued | wire.Started) and since is None:
            since = 0
        elif job == small and isinstance(message, wire.Progress):
            counts.append(since)
            since = 0
    assert len(counts) == PREVIEW_STEPS, f"{len(counts)} steps of a preview were seen"
    return counts
