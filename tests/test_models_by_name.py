"""Several models in one worker, by name: the same bits as alone, and who gives way to whom."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from comfy_node import wire
from comfy_node.texts import WorkerError
from comfy_node.wire import WireTensor, transfer
from real_worker import JOB_SECONDS, RealWorker, command, from_wire, to_wire
from soak.restart import durable_worker
from soak.wire_client import JobFailed, WireClient
from worker_binary import binary

SECONDS = 60
MAIN, FINE, HALF = "default", "fine", "half"
TRANSFORMER = Path("transformer", "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def fine(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tune of the tiny checkpoint: other values in its transformer."""
    folder = tmp_path_factory.mktemp("fine") / "fine"
    shutil.copytree(tiny / "diffusers", folder)
    weights = load_file(folder / TRANSFORMER)
    noise = torch.Generator().manual_seed(7)
    for name in sorted(weights):
        if weights[name].ndim == 2:
            weights[name] *= 1 + 0.1 * torch.randn(weights[name].shape, generator=noise)
    save_file(weights, folder / TRANSFORMER)
    return folder


def others(fine: Path) -> list[str]:
    return [f"{FINE}={fine}", f"{HALF}=precision=bf16"]


@pytest.fixture(scope="module")
def several(tiny: Path, fine: Path, tmp_path_factory: pytest.TempPathFactory):
    """A worker with the tiny checkpoint, a fine-tune of it, and it in bf16."""
    log = tmp_path_factory.mktemp("several") / "worker.log"
    with RealWorker(tiny / "diffusers", log, device="cpu", also=others(fine)) as worker:
        yield worker


def submit(worker: RealWorker, model: str | None, request: object, **tensors: torch.Tensor):
    """A job for a model, as the future of its tensors."""
    sent = [to_wire(name, tensor) for name, tensor in tensors.items()]
    return worker.client.submit(request, sent, options=wire.JobOptions(model=model))


def result(future) -> torch.Tensor:
    (tensor,) = future.result(JOB_SECONDS).tensors.values()
    return from_wire(tensor)


def run(worker: RealWorker, model: str | None, request: object, **tensors: torch.Tensor):
    return result(submit(worker, model, request, **tensors))


def denoise(seed: int, steps: int) -> wire.DenoiseRequest:
    return wire.DenoiseRequest(seed, steps, 1.0, "euler", wire.AutoSchedule())


def picture(worker: RealWorker, model: str | None) -> dict[str, torch.Tensor]:
    """What every operation of a model gives."""
    text = run(worker, model, wire.EncodeRequest(["a red fox"], 32))
    empty = torch.zeros(1, 16, 4, 6)
    latent = run(worker, model, denoise(1, 3), positive=text, latent=empty)
    image = run(worker, model, wire.DecodeRequest(), latent=latent)
    again = run(worker, model, wire.VaeEncodeRequest(), image=image)
    return {"text": text, "latent": latent, "image": image, "again": again}


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def states(worker: RealWorker) -> dict[str, str]:
    models = json.loads(worker.get("/health")[1])["models"]
    return {model["name"]: model["state"] for model in models}


def loaded(worker: RealWorker) -> list[str]:
    return [name for name, state in states(worker).items() if state == "resident"]


def until(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def post(worker: RealWorker, path: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://{worker.address}{path}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture(scope="module")
def alone(tiny: Path, fine: Path, tmp_path_factory: pytest.TempPathFactory):
    """What each model gives in a worker of its own."""
    pictures = {}
    for name, model, precision in [
        (MAIN, tiny / "diffusers", "f32"),
        (FINE, fine, "f32"),
        (HALF, tiny / "diffusers", "bf16"),
    ]:
        log = tmp_path_factory.mktemp("alone") / "worker.log"
        with RealWorker(model, log, device="cpu", precision=precision) as worker:
            pictures[name] = picture(worker, None)
    return pictures


def test_each_model_gives_what_it_gives_alone(several, alone):
    assert not torch.equal(alone[MAIN]["latent"], alone[FINE]["latent"])
    assert not torch.equal(alone[MAIN]["latent"], alone[HALF]["latent"])
    for name in (FINE, MAIN, HALF, FINE):
        assert equal(picture(several, name), alone[name]), name
    assert equal(picture(several, None), alone[MAIN])


def test_interleaved_jobs_of_several_models_give_what_they_give_alone(several, alone):
    text = alone[MAIN]["text"]
    empty = torch.zeros(1, 16, 4, 6)
    jobs = [(3, 40), (4, 9)]
    cases = [(name, seed, steps) for name in (MAIN, FINE, HALF) for seed, steps in jobs]

    def start(name: str, seed: int, steps: int):
        return submit(several, name, denoise(seed, steps), positive=text, latent=empty)

    wanted = [result(start(*case)) for case in cases]
    # Client and worker have forgotten those that ended, so each is computed again.
    for order in (cases, cases[::-1]):
        together = [(case, start(*case)) for case in order]
        for case, future in together:
            assert torch.equal(result(future), wanted[cases.index(case)]), case
    latents = {tuple(w.flatten().tolist()) for w in wanted}
    assert len(latents) == len(cases), "each of them is another job"


def test_the_hello_lists_the_models_and_the_first_is_the_default(several):
    can = several.client.connect().result(SECONDS).capabilities
    assert [(m.name, m.model, m.precision) for m in can.models] == [
        (MAIN, "diffusers", "f32"),
        (FINE, "fine", "f32"),
        (HALF, "diffusers", "bf16"),
    ]
    assert all(m.operations == can.operations for m in can.models)
    assert {(m.latent_channels, m.conditioning_width) for m in can.models} == {
        (can.latent_channels, can.conditioning_width)
    }


@pytest.mark.parametrize("name", ["slow", "", "a b", "x" * 65, "模型"])
def test_an_unknown_name_is_refused_with_those_there_are(several, name):
    with pytest.raises(WorkerError) as refused:
        run(several, name, wire.EncodeRequest(["a"], 8))
    assert "has no model" in refused.value.message
    assert "default, fine, half" in refused.value.hint
    code = wire.ErrorCode.MISSING_MODEL if name == "slow" else wire.ErrorCode.INVALID_REQUEST
    assert refused.value.code == code


def test_models_are_unloaded_on_request_and_loaded_by_the_next_job(several, alone):
    picture(several, FINE)
    assert post(several, f"/models/{FINE}/unload")[0] == 200
    until(lambda: states(several)[FINE] == "unloaded")
    assert equal(picture(several, FINE), alone[FINE])
    status, body = post(several, "/free")
    assert status == 200 and json.loads(body)["busy"] == []
    until(lambda: not loaded(several))
    assert several.metric('memory_bytes{kind="weights"}') == 0
    assert equal(picture(several, None), alone[MAIN])
    assert loaded(several) == [MAIN]
    assert post(several, "/models/none/unload")[0] == 404
    assert several.get("/free")[0] == 405


def test_a_model_whose_jobs_wait_is_unloaded_and_one_whose_job_runs_is_not(several, alone):
    text, empty = alone[MAIN]["text"], torch.zeros(1, 16, 16, 16)
    running = submit(several, MAIN, denoise(11, 600), positive=text, latent=empty)
    until(lambda: json.loads(several.get("/health")[1])["running"] == 1)
    waiting = submit(several, FINE, denoise(1, 700), positive=text, latent=empty)
    until(lambda: json.loads(several.get("/health")[1])["queued"] == 1)
    assert post(several, f"/models/{MAIN}/unload")[0] == 409
    assert json.loads(post(several, "/free")[1])["busy"] == [MAIN]
    assert states(several)[MAIN] == "resident"
    running.cancel()
    until(lambda: json.loads(several.get("/health")[1])["running"] == 1)
    waiting.cancel()
    until(lambda: json.loads(several.get("/health")[1])["running"] == 0)
    assert equal(picture(several, FINE), alone[FINE])


def test_the_least_recently_used_model_gives_way(tiny, fine, alone, tmp_path):
    flags = {"also": others(fine), "max_loaded": 2, "unload_after": 2, "device": "cpu"}
    with RealWorker(tiny / "diffusers", tmp_path / "worker.log", **flags) as worker:
        for name, left in [
            (MAIN, [MAIN]),
            (FINE, [MAIN, FINE]),
            (MAIN, [MAIN, FINE]),
            (HALF, [MAIN, HALF]),
            (FINE, [FINE, HALF]),
        ]:
            assert equal(picture(worker, name), alone[name]), name
            assert loaded(worker) == left
        # And all of them when they were idle for long enough.
        until(lambda: not loaded(worker))
        assert equal(picture(worker, HALF), alone[HALF])


def test_a_model_that_cannot_be_loaded_fails_its_jobs_and_no_others(tiny, alone, tmp_path):
    gone = tmp_path / "gone"
    shutil.copytree(tiny / "diffusers", gone)
    flags = {"also": [f"gone={gone}"], "device": "cpu"}
    with RealWorker(tiny / "diffusers", tmp_path / "worker.log", **flags) as worker:
        moved = gone.rename(tmp_path / "moved")
        for _ in range(2):
            with pytest.raises(WorkerError) as failed:
                run(worker, "gone", wire.EncodeRequest(["a"], 8))
            assert failed.value.message.startswith("The model `gone` cannot be loaded: ")
            assert failed.value.code == wire.ErrorCode.MISSING_MODEL
        assert equal(picture(worker, MAIN), alone[MAIN])
        moved.rename(gone)
        assert run(worker, "gone", wire.EncodeRequest(["a"], 8)).shape == (1, 8, 64)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"also": "fine"}, "it is not of the form NAME=PATH"),
        ({"also": "a b=/x"}, "`a b` is no name"),
        ({"also": "a=/x,precision=f7"}, "is not a precision: use f32, bf16, fp8, "),
        ({"also": "default="}, "two models are named `default`"),
        ({"also": "a=/nowhere/at/all"}, "the model `a`: "),
        ({"also": "a=precision=fp8"}, "the model `a`: --precision fp8 takes an NVIDIA GPU"),
        ({"name": "a/b"}, "`a/b` is no name"),
        ({"max-loaded": 0}, "it is not a whole number from 1 to 64"),
        ({"unload-after": "soon"}, "neither `off` nor a number of seconds"),
    ],
)
def test_wrong_arguments_end_with_one_sentence(tiny, arguments, words):
    ended = command("serve", model=tiny / "diffusers", listen="127.0.0.1:0", **arguments)
    assert ended.returncode != 0
    assert words in ended.stderr, ended.stderr
    assert "panicked" not in ended.stderr


def test_a_job_of_the_journal_goes_on_with_its_model(tiny, fine, alone, tmp_path):
    """The worker is killed in the middle of a job for a model that the next process must load."""
    text, empty = alone[MAIN]["text"], torch.zeros(1, 16, 4, 6)
    request = denoise(21, 40)
    tensors = [to_wire("positive", text), to_wire("latent", empty)]
    log = tmp_path / "worker.log"
    with RealWorker(fine, log, device="cpu", precision="f32") as single:
        wanted = run(single, None, request, positive=text, latent=empty)

    async def interrupted(has_model: bool) -> list[WireTensor]:
        job, secret = uuid.uuid4().bytes, uuid.uuid4().bytes * 2
        options = wire.JobOptions(model=FINE)
        async with WireClient(worker.url, "names", secret) as client:
            headers = [tensor.header for tensor in tensors]
            await client.send(wire.Submit(job, request, headers, options))
            for chunk in transfer.chunks(job, tensors):
                await client.send(chunk)
            while not (
                isinstance(message := await client.receive(), wire.Progress) and message.step > 5
            ):
                pass
        if not has_model:
            del worker._command[-len(also) :]
        worker.kill()
        worker.wait_until_ready()
        async with WireClient(worker.url, "names", secret) as client:
            await client.send(wire.Claim(job, 0))
            messages = [message async for message in client.until_done(job)]
        return messages[-1]

    also = ["--also", f"{FINE}={fine}"]
    with durable_worker(binary(), tmp_path, tiny / "diffusers") as worker:
        worker._command += also
        worker.kill()
        worker.wait_until_ready()
        (latent,) = asyncio.run(interrupted(True))
        assert torch.equal(from_wire(latent), wanted)
        with pytest.raises(JobFailed) as failed:
            asyncio.run(interrupted(False))
        assert failed.value.error.code == wire.ErrorCode.MISSING_MODEL
        assert failed.value.error.hint == "It has: default."
