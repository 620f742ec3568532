"""500 idle sockets and 50 busy clients: flat memory, equal shares, and quick answers."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from comfy_node import wire
from comfy_node.wire import WireTensor, transfer
from worker_binary import ROOT, free_port

from .beside import most_steps_waited
from .images import empty, named
from .measure import growth, mebibytes, quantile, resident_bytes
from .report import Report
from .supervisor import Supervisor
from .wire_client import ConnectionEnded, WireClient

TITLE = "Load: idle sockets and busy clients on the demo model"
SIZES = ("minutes", "idle", "busy", "side", "steps")
IN_FLIGHT = 2
"""Jobs that each busy client has in the queue, so that its turn never finds it without one."""
OPENING = 16
"""Connections that are opened at the same time."""
SETTLING = 0.2
"""The share of the run that is left out of memory's line, while caches and allocators fill."""
MOST_GROWTH = 2.0
"""Of memory's fitted line, in percent of its mean."""
MOST_SPREAD = 1.1
"""Memory's maximum by its minimum, after settling."""
MOST_UNFAIR = 1.2
MOST_READY_MS = 50.0
SAMPLE_SECONDS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--idle", type=int, default=500, help="idle sockets")
    parser.add_argument("--busy", type=int, default=50, help="busy clients")
    parser.add_argument("--side", type=int, default=64, help="width and height in pixels")
    parser.add_argument("--steps", type=int, default=2)


@dataclass
class _Busy:
    """One busy client: when its jobs ended."""

    ends: list[float] = field(default_factory=list)


async def run(given: argparse.Namespace, binary: Path, folder: Path, report: Report) -> None:
    # One address may hold as many connections and queue places as remain free.
    connections = 2 * (given.idle + given.busy) + 64
    arguments = ["--model", given.model, "--device", "cpu", "--connections", connections]
    arguments += ["--queue", 8 * IN_FLIGHT * given.busy + 64]
    with Supervisor(binary, folder, free_port(), *arguments) as worker:
        waited = await most_steps_waited(worker.url)
        async with WireClient(worker.url, "load") as client:
            (positive,) = await client.run(wire.EncodeRequest(["a red fox"], 32))
        tensors = [named("positive", positive), empty(given.side, given.side)]
        request = wire.DenoiseRequest(0, given.steps, 1.0, "euler", wire.AutoSchedule())
        idle = _Idle(worker.url)
        await idle.open(given.idle)
        busy = [_Busy() for _ in range(given.busy)]
        tasks = [
            asyncio.create_task(_work(worker.url, number, one, request, tensors))
            for number, one in enumerate(busy)
        ]
        try:
            while not all(one.ends for one in busy):
                _raise_if_ended(tasks)
                await asyncio.sleep(0.1)
            probe = _Probe(worker.port)
            begun = time.monotonic()
            memory = await _sample_memory(worker, tasks, 60 * given.minutes)
            ended = time.monotonic()
            ready = await asyncio.to_thread(probe.end)
            metrics = await asyncio.to_thread(worker.metrics)
            answering = await idle.answering()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await idle.close()
        deaths = len(worker.deaths)
    counts = [sum(begun <= at <= ended for at in one.ends) for one in busy]
    report.note("seconds", ended - begun, "s")
    report.equal("worker ended by itself", deaths, 0, "times")
    report.equal("idle sockets that still answer", answering, given.idle)
    report.note("connections (/metrics)", int(metrics["ovis_connections"]))
    report.note("jobs done", sum(counts))
    report.note("jobs per second", sum(counts) / (ended - begun))
    _report_memory(memory, report)
    report.note("jobs of one client, least", min(counts))
    report.note("jobs of one client, most", max(counts))
    unfair = max(counts) / min(counts) if min(counts) else float("inf")
    report.at_most("throughput of equal owners, max/min", unfair, MOST_UNFAIR)
    milliseconds = [1000 * one for one in ready["seconds"]]
    report.note("/readyz: requests", len(milliseconds))
    report.note("/readyz: statuses", json.dumps(ready["statuses"]))
    answers = {status: count for status, count in ready["statuses"].items() if status != "200"}
    report.at_most("/readyz: answers other than 200", sum(answers.values()), 0)
    report.note("/readyz: median", quantile(milliseconds, 0.5), "ms")
    report.at_most("/readyz: p99", quantile(milliseconds, 0.99), MOST_READY_MS, "ms")
    for owner, steps in waited.items():
        name = f"steps of a 50-step poster between two of a 4-step preview ({owner})"
        report.at_most(name, steps, 1)


def _report_memory(memory: list[tuple[float, int, int]], report: Report) -> None:
    settled = memory[int(len(memory) * SETTLING) :]
    seconds = [at for at, _, _ in settled]
    for name, column in (("worker", 1), ("clients", 2)):
        sizes = [one[column] for one in settled]
        report.note(f"memory of the {name}, least", mebibytes(min(sizes)), "MiB")
        report.note(f"memory of the {name}, most", mebibytes(max(sizes)), "MiB")
        if name == "worker":
            rise = 100 * growth(seconds, sizes)
            report.at_most(
                "growth of the worker's memory over its fitted line", rise, MOST_GROWTH, "%"
            )
            report.at_most("the worker's memory, max/min", max(sizes) / min(sizes), MOST_SPREAD)


async def _sample_memory(
    worker: Supervisor, tasks: Sequence[asyncio.Task], seconds: float
) -> list[tuple[float, int, int]]:
    """Time and resident bytes of the worker and of this process, once a second."""
    samples = []
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end or len(samples) < 3:
        _raise_if_ended(tasks)
        samples.append((now, resident_bytes(worker.pid), resident_bytes(os.getpid())))
        await asyncio.sleep(SAMPLE_SECONDS)
    return samples


def _raise_if_ended(tasks: Sequence[asyncio.Task]) -> None:
    """Raises what ended a busy client, which otherwise works until it is cancelled."""
    for task in tasks:
        if task.done():
            task.result()
            raise AssertionError("a busy client ended")


async def _work(
    url: str, number: int, busy: _Busy, request: object, tensors: Sequence[WireTensor]
) -> None:
    """A client that always has two jobs in the queue."""
    async with WireClient(url, f"busy {number}", secrets.token_bytes(32)) as client:
        assemblers: dict[bytes, transfer.Assembler] = {}
        for _ in range(IN_FLIGHT):
            await client.submit(request, tensors)
        while True:
            message = await client.receive()
            if isinstance(message, wire.Done):
                assemblers[message.job] = transfer.Assembler(message.tensors)
            elif isinstance(message, wire.Chunk) and assemblers[message.job].push(message):
                busy.ends.append(time.monotonic())
                del assemblers[message.job]
                await client.send(wire.Acknowledge(message.job))
                await client.submit(request, tensors)


class _Idle:
    """Clients that have said hello and do nothing but answer pings."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._clients: list[WireClient] = []
        self._readers: list[asyncio.Task] = []
        self._answered = 0

    async def open(self, count: int) -> None:
        """Opens the connections, a few at a time."""
        for first in range(0, count, OPENING):
            some = range(first, min(first + OPENING, count))
            clients = [
                WireClient(self._url, f"idle {number}", secrets.token_bytes(32)) for number in some
            ]
            self._clients += await asyncio.gather(*(client.__aenter__() for client in clients))
        self._readers = [asyncio.create_task(self._read(client)) for client in self._clients]

    async def answering(self) -> int:
        """How many still get an answer to a question."""
        for client in self._clients:
            try:
                await client.send(wire.StatusRequest())
            except ConnectionEnded:
                continue
        deadline = time.monotonic() + 30
        while self._answered < len(self._clients) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        return self._answered

    async def close(self) -> None:
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        await asyncio.gather(*(client.__aexit__() for client in self._clients))

    async def _read(self, client: WireClient) -> None:
        while True:
            if isinstance(await client.receive(), wire.Status):
                self._answered += 1


class _Probe:
    """The process that asks `/readyz`."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "soak.probe", "--port", str(port)],
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def end(self) -> dict:
        """Ends it, and returns what it measured."""
        output, _ = self._process.communicate(timeout=60)
        return json.loads(output)
