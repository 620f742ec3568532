"""A graph in a real ComfyUI while its worker is killed, its network is cut, or ComfyUI restarts.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout. Every graph finishes, with the bits of the
undisturbed run.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from comfy_server import ComfyServer, Run
from real_comfyui import comfy, graph, latents_of, undecoded
from real_worker import RealWorker
from silent_proxy import SilentProxy

FIXTURES = (comfy,)  # pytest finds it by name
STEPS = 100


def made(worker: str, seed: int) -> dict:
    """Some hundred steps, which take seconds."""
    size = {"empty__width": 256, "empty__height": 256, "denoise__steps": STEPS}
    return undecoded(graph(worker__worker=worker, denoise__seed=seed, **size))


def again(first: dict) -> dict:
    """The same work without ComfyUI's cache: it has none for this equivalent empty latent."""
    return {**first, "empty": {**first["empty"], "class_type": "EmptyLatentImage"}}


class Kept:
    """A worker with the label ``kept``, which a test can kill and start again."""

    def __init__(self, comfy: ComfyServer, worker: RealWorker) -> None:
        self.comfy = comfy
        self.worker = worker

    def restart(self, kind: signal.Signals = signal.SIGKILL) -> None:
        self.worker.process.send_signal(kind)
        self.worker.process.wait(60)
        self.worker.client.close()
        self.worker.__enter__()

    def steps(self) -> float:
        """Denoise steps of the present process."""
        return self.worker.metric("denoise_step_seconds_count")


@pytest.fixture(params=["state folder", "no state folder"])
def kept(request, comfy, tiny, tmp_path) -> Iterator[Kept]:
    durable = {"state_dir": tmp_path / "state", "checkpoint_steps": 5}
    options = durable if request.param == "state folder" else {}
    log = tmp_path / "worker.log"
    with RealWorker(tiny / "diffusers", log, device="cpu", precision="f32", **options) as worker:
        comfy.post("/ovis-worker/workers/kept/save", {"url": worker.config.url})
        yield Kept(comfy, worker)
        comfy.post("/ovis-worker/workers/kept/remove", {})


def run_and(comfy: ComfyServer, graph: dict, steps: tuple, act: Callable[[], None]) -> Run:
    """Runs a graph, and acts once at each of these steps."""
    left = list(steps)

    def at_the_steps(message: dict) -> None:
        if message["type"] == "progress" and left and message["data"]["value"] > left[0]:
            left.pop(0)
            act()

    run = comfy.run(graph, at_the_steps)
    assert not left, "the job was done too early"
    return run


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_the_graph_finishes_although_its_worker_ended_twice(kept, kind):
    first = made("kept", 400 + kind)
    undisturbed = latents_of(kept.comfy, kept.comfy.run(first))
    run = run_and(kept.comfy, again(first), (20, 60), lambda: kept.restart(kind))
    assert np.array_equal(latents_of(kept.comfy, run), undisturbed)
    if kept.worker.is_durable:
        assert kept.steps() < STEPS, "the job began anew"
    assert not run.texts or not run.texts[-1].strip(), "it is still said to be lost"
    calm = {text for text in run.texts if text.strip()}
    assert len(calm) <= 3, calm


def test_the_graph_finishes_after_two_minutes_without_a_network(comfy, tiny, tmp_path):
    log = tmp_path / "worker.log"
    with RealWorker(tiny / "diffusers", log, device="cpu", precision="f32") as worker:
        proxy = SilentProxy(int(worker.address.rpartition(":")[2]))
        comfy.post("/ovis-worker/workers/far/save", {"url": f"ws://127.0.0.1:{proxy.port}"})
        try:
            first = made("far", 420)
            undisturbed = latents_of(comfy, comfy.run(first))
            before = worker.metric("denoise_step_seconds_count")

            def cut() -> None:
                proxy.cut()
                threading.Timer(120, proxy.restore).start()

            begun = time.monotonic()
            run = run_and(comfy, again(first), (20,), cut)
            assert time.monotonic() - begun > 115, "it did not need the network"
            assert np.array_equal(latents_of(comfy, run), undisturbed)
            done = worker.metric("denoise_step_seconds_count") - before
            assert done == STEPS, "the worker went on without its client, and once"
        finally:
            comfy.post("/ovis-worker/workers/far/remove", {})
            proxy.close()


@pytest.mark.parametrize("how", ["asked to stop", "killed"])
def test_the_graph_finishes_although_comfyui_restarts(comfy, kept, how):
    first = made("kept", 430 + len(how))
    undisturbed = latents_of(comfy, comfy.run(first))
    before = kept.steps()
    second = again(first)
    reached = threading.Event()

    def in_the_middle(message: dict) -> None:
        if message["type"] == "progress" and message["data"]["value"] > 20:
            reached.set()

    def lose() -> None:
        with pytest.raises(Exception):  # noqa: B017 - however aiohttp says that ComfyUI is gone
            comfy.run(second, in_the_middle)

    running = threading.Thread(target=lose)
    running.start()
    assert reached.wait(120)
    comfy.restart(kill=how == "killed")
    running.join(60)
    run = comfy.run(second)
    assert np.array_equal(latents_of(comfy, run), undisturbed)
    done = kept.steps() - before
    assert done == STEPS, "the job that the first ComfyUI left behind was taken over"
