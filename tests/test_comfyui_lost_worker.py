"""A worker's process that exits while a node in a real ComfyUI waits for it.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

import numpy as np
import pytest

from comfy_server import Run
from real_comfyui import SETTINGS, comfy, graph, latents_of, undecoded
from real_worker import RealWorker

FIXTURES = (comfy,)  # pytest finds it by name
LOST = "trying to reconnect for up to"


@pytest.fixture
def lone(comfy, tiny, tmp_path):
    """A worker whose address ComfyUI knows, but which it cannot start."""
    worker = RealWorker(tiny / "diffusers", tmp_path / "worker.log", device="cpu", precision="f32")
    with worker:
        comfy.post("/ovis-worker/workers/lone/save", {"url": worker.config.url})
        yield worker
        comfy.post("/ovis-worker/workers/lone/remove", {})


def long(**changes: object) -> dict:
    """Some hundred steps, which take seconds."""
    common = {"empty__width": 256, "empty__height": 256, "denoise__steps": 100}
    return undecoded(graph(**{**common, **changes}))


def run_and(comfy, made: dict, act: Callable[[], None]) -> Run:
    """Runs a graph, and acts once at a step in its middle."""
    acted: list[dict] = []

    def in_the_middle(message: dict) -> None:
        if message["type"] == "progress" and message["data"]["value"] > 10 and not acted:
            acted.append(message)
            act()

    run = comfy.run(made, in_the_middle)
    assert acted and acted[0]["data"]["value"] < 90
    return run


def test_a_job_whose_worker_is_killed_goes_on_at_the_next_one(comfy, lone):
    made = long(worker__worker="lone", denoise__seed=201)
    undisturbed = latents_of(comfy, comfy.run(made))
    # The same result without ComfyUI's cache: it has none for this equivalent empty latent.
    made["empty"]["class_type"] = "EmptyLatentImage"

    def restart() -> None:
        lone.process.kill()
        lone.process.wait()
        lone.client.close()
        lone.__enter__()

    run = run_and(comfy, made, restart)
    assert run.of("execution_success"), run.error
    assert any(LOST in text for text in run.texts)
    assert not run.texts[-1].strip(), "it is still said to be lost"
    assert np.array_equal(latents_of(comfy, run), undisturbed)


def test_a_job_whose_worker_is_asked_to_stop_is_sent_to_the_next_one(comfy, lone):
    def restart() -> None:
        lone.process.send_signal(signal.SIGTERM)
        assert lone.process.wait(30) == 0
        lone.client.close()
        lone.__enter__()

    run = run_and(comfy, long(worker__worker="lone", denoise__seed=202), restart)
    assert run.of("execution_success"), run.error
    said = [text for text in run.texts if "is shutting down" in text]
    assert said and "Waiting for it to answer again." in said[0]
    assert not run.texts[-1].strip(), "it is still said to be waited for"


def test_an_interrupt_ends_the_wait_for_a_lost_worker(comfy, lone):
    def kill_and_interrupt(message: dict) -> str | None:
        if message["type"] == "progress":
            lone.process.kill()
        waits = message["type"] == "text" and LOST in message["data"]
        return "/interrupt" if waits else None

    run = comfy.run(long(worker__worker="lone", denoise__seed=206), kill_and_interrupt)
    assert run.of("execution_interrupted"), run.error
    assert not run.texts[-1].strip(), "it is still said to be waited for"


def test_a_killed_worker_that_the_pack_has_started_is_started_again_for_its_job(comfy):
    assert comfy.run(graph(denoise__seed=204)).of("execution_success")
    note = (comfy.base / SETTINGS).parent / "ovis_worker_local.pid"
    first = json.loads(note.read_text())

    def kill() -> None:
        os.kill(first["pid"], signal.SIGKILL)

    run = run_and(comfy, long(denoise__seed=205), kill)
    assert run.of("execution_success"), run.error
    assert json.loads(note.read_text())["pid"] != first["pid"]
