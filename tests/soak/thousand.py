"""A thousand images in a row through one client: neither memory nor time drifts."""

from __future__ import annotations

import argparse
import os
import time
from array import array
from pathlib import Path
from statistics import median

from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.worker.client import WorkerClient
from worker_binary import free_port

from .images import empty, named
from .measure import mebibytes, resident_bytes
from .report import Report
from .supervisor import Supervisor

TITLE = "A thousand images in a row"
SIZES = ("images", "side", "steps")
WARM_UP = 200
"""Images after which memory is compared; allocators and caches have filled by then."""
WINDOW = 20
"""Images over which memory is taken as the median."""
MOST_DRIFT = 2.0
"""In percent."""
JOB_SECONDS = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=64, help="width and height in pixels")
    parser.add_argument("--steps", type=int, default=2)


def run(given: argparse.Namespace, binary: Path, folder: Path, report: Report) -> None:
    arguments = ["--model", given.model, "--device", "cpu"]
    # Of fixed size, so that the records of this run are no growth of the client's memory.
    times = array("d", bytes(8 * given.images))
    worker_memory = array("q", times.tobytes())
    client_memory = array("q", times.tobytes())
    made = 0
    with Supervisor(binary, folder, free_port(), *arguments) as worker:
        client = WorkerClient(WorkerConfig(url=worker.url, folder=folder))
        try:
            for number in range(given.images):
                begun = time.monotonic()
                _make(client, number, given.side, given.steps)
                times[number] = time.monotonic() - begun
                worker_memory[number] = resident_bytes(worker.pid)
                client_memory[number] = resident_bytes(os.getpid())
                made += 1
        finally:
            client.close()
        kept = worker.metrics()["ovis_unsent_bytes"]
        deaths = len(worker.deaths)
    first, last = _ends(given.images)
    report.equal("images", made, given.images)
    report.equal("worker ended by itself", deaths, 0, "times")
    for name, memory in (("worker", worker_memory), ("client", client_memory)):
        before, after = median(memory[first]), median(memory[last])
        report.note(f"memory of the {name} at image {first.stop}", mebibytes(before), "MiB")
        report.note(f"memory of the {name} at image {given.images}", mebibytes(after), "MiB")
        report.at_most(f"drift of the {name}'s memory", percent(before, after), MOST_DRIFT, "%")
    share = max(1, given.images // 5)
    early, late = median(times[:share]), median(times[-share:])
    report.note(f"time per image, median of the first {share}", early * 1000, "ms")
    report.note(f"time per image, median of the last {share}", late * 1000, "ms")
    report.at_most("drift of the time per image", percent(early, late), MOST_DRIFT, "%")
    report.at_most("result bytes kept at the end", kept, 0)


def _make(client: WorkerClient, number: int, side: int, steps: int) -> None:
    def job(request: object, *tensors: wire.WireTensor) -> wire.WireTensor:
        (tensor,) = client.submit(request, tensors).result(JOB_SECONDS).tensors.values()
        return tensor

    positive = job(wire.EncodeRequest([f"image {number:05}"], 32))
    request = wire.DenoiseRequest(number, steps, 1.0, "euler", wire.AutoSchedule())
    latent = job(request, named("positive", positive), empty(side, side))
    job(wire.DecodeRequest(), named("latent", latent))


def _ends(images: int) -> tuple[slice, slice]:
    """Where memory is compared: around image :data:`WARM_UP`, and at the end."""
    first = min(WARM_UP, max(1, images // 5))
    window = min(WINDOW, first)
    return slice(first - window, first), slice(images - window, images)


def percent(before: float, after: float) -> float:
    """The rise from ``before`` to ``after`` in percent; negative for a fall."""
    return (after / before - 1) * 100
