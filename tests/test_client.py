"""The client with a fake worker: results of jobs, and every way in which one can fail."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from comfy_node import wire
from comfy_node.settings import lookup
from comfy_node.settings.config import ComfyFolders, WorkerConfig
from comfy_node.texts import WorkerError
from comfy_node.wire import WireTensor
from comfy_node.worker import backoff, persistence
from comfy_node.worker.client import WorkerClient, client_for
from comfy_node.worker.errors import NoWorker
from fake_worker import WIDTH, FakeWorker

TIMEOUT = 20
FAKE = Path(__file__).parent / "fake_worker.py"


def latent(values: int = 16 * 4 * 4, shape: tuple[int, ...] = (1, 16, 4, 4)) -> WireTensor:
    header = wire.TensorHeader("latent", wire.DType.F32, list(shape))
    return WireTensor(header, struct.pack(f"<{values}f", *([0.5] * values)))


def denoise(steps: int) -> wire.DenoiseRequest:
    return wire.DenoiseRequest(1, steps, 1.0, "euler", wire.AutoSchedule())


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def worker():
    with FakeWorker() as fake:
        yield fake


@pytest.fixture
def quick(monkeypatch):
    """Reconnects without long pauses."""
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "MOST_SECONDS", 0.05)
    monkeypatch.setattr(backoff, "LEAST_RETRY_SECONDS", 0.05)


@pytest.fixture
def client(worker):
    connected = WorkerClient(WorkerConfig(url=worker.url))
    yield connected
    connected.close()


def test_a_job_gives_its_tensors_and_events_in_order(client):
    events = []
    result = client.submit(denoise(5), [latent()], events.append).result(TIMEOUT)
    assert result.tensors["latent"].header.shape == [1, 16, 4, 4]
    assert [type(event) for event in events[:2]] == [wire.Queued, wire.Started]
    assert [event.step for event in events[2:]] == [1, 2, 3, 4, 5]


def test_a_tensor_of_many_chunks_travels_whole_both_ways(client, worker):
    shape = (1, 16, 256, 256)
    result = client.submit(denoise(1), [latent(16 * 256 * 256, shape)]).result(TIMEOUT)
    assert len(result.tensors["latent"].data) == 4 * 16 * 256 * 256
    assert (worker.received[0]["latent"] == 0.5).all()


def test_the_connection_outlives_the_event_loops_that_use_it(client, worker):
    async def prompt() -> list[int]:
        request = wire.EncodeRequest(["a", "b"], 8)
        result = await asyncio.wrap_future(client.submit(request))
        return result.tensors["conditioning"].header.shape

    for _ in range(3):
        assert asyncio.run(prompt()) == [2, 8, WIDTH]
    assert worker.connections == 1


def test_jobs_share_the_connection(client, worker):
    jobs = [client.submit(denoise(3), [latent()]) for _ in range(8)]
    assert all(job.result(TIMEOUT) for job in jobs)
    assert worker.connections == 1


def test_a_failed_job_raises_the_workers_sentence_and_hint(client):
    with pytest.raises(WorkerError) as caught:
        client.submit(wire.EncodeRequest(["fail"], 8)).result(TIMEOUT)
    assert str(caught.value) == "The prompt asks to fail.\nTry it."
    assert caught.value.code is wire.ErrorCode.INVALID_REQUEST


def test_a_cut_prompt_comes_with_its_numbers(client):
    request = wire.EncodeRequest(["short", "one word too many " * 5], 8)
    result = client.submit(request).result(TIMEOUT)
    assert result.outcome.cuts == [wire.PromptCut(1, 12, 5)]


def test_cancelling_the_future_cancels_the_job_on_the_worker(client, worker):
    events = []
    job = client.submit(denoise(10_000), [latent()], events.append)
    wait_until(lambda: any(isinstance(event, wire.Progress) for event in events))
    job.cancel()
    wait_until(lambda: worker.cancelled == [worker.submitted[0].job])
    assert client.submit(denoise(1), [latent()]).result(TIMEOUT)
    assert worker.connections == 1


def test_a_queued_job_can_be_cancelled_too(client, worker):
    first = client.submit(denoise(10_000), [latent()])
    wait_until(lambda: len(worker.received) == 1)
    second = client.submit(denoise(1), [latent()])
    wait_until(lambda: len(worker.received) == 2)
    second.cancel()
    wait_until(lambda: worker.cancelled == [worker.submitted[1].job])
    assert not first.done()
    first.cancel()


def test_a_lost_connection_is_made_again_and_the_job_sent_once_more(client, worker):
    worker.hang_ups = 1
    result = client.submit(wire.EncodeRequest(["hang up"], 8)).result(TIMEOUT)
    assert result.tensors["conditioning"].header.shape == [1, 8, WIDTH]
    assert worker.connections == 2
    assert len(worker.submitted) == len(worker.claims) == 1
    assert worker.claims[0].job == worker.submitted[0].job


def test_a_job_that_ends_the_connection_every_time_fails(client, worker, quick):
    worker.hang_ups, worker.keeps = 100, False
    with pytest.raises(WorkerError, match="was lost during the job"):
        client.submit(wire.EncodeRequest(["hang up"], 8)).result(TIMEOUT)
    # A job that was lost is claimed, which fails, and submitted on the same connection.
    assert worker.connections <= persistence.MAX_LOSSES + 1


def test_a_worker_that_was_restarted_is_found_again():
    with FakeWorker() as first:
        client = WorkerClient(WorkerConfig(url=first.url))
        client.submit(denoise(1), [latent()]).result(TIMEOUT)
    with FakeWorker(port=first.port) as second:
        client.submit(denoise(1), [latent()]).result(TIMEOUT)
        assert second.connections == 1
        client.close()


def failure_of(config: WorkerConfig) -> WorkerError:
    client = WorkerClient(config)
    try:
        with pytest.raises(WorkerError) as caught:
            client.submit(wire.EncodeRequest(["a"], 8)).result(TIMEOUT)
        return caught.value
    finally:
        client.close()


@pytest.mark.parametrize(
    ("protocol", "older"),
    [(wire.PROTOCOL_VERSION - 1, "worker"), (wire.PROTOCOL_VERSION + 1, "node pack")],
)
def test_another_protocol_version_is_refused_with_both_versions(protocol, older):
    with FakeWorker(protocol=protocol) as fake:
        error = failure_of(WorkerConfig(url=fake.url))
    assert f"version {protocol}" in error.message
    assert f"version {wire.PROTOCOL_VERSION}" in error.message
    assert error.hint.startswith(f"Update the {older}")


def test_something_that_is_no_worker_is_called_that():
    with FakeWorker(magic=1) as fake:
        assert "Another program answers at" in failure_of(WorkerConfig(url=fake.url)).message
        other_page = fake.url.replace("/ws", "/other")
        assert "HTTP status 404" in failure_of(WorkerConfig(url=other_page)).message


def test_the_token_is_sent_and_a_wrong_one_is_refused():
    with FakeWorker(token="s3cret") as fake:
        assert failure_of(WorkerConfig(url=fake.url)).code is wire.ErrorCode.UNAUTHORIZED
        client = WorkerClient(WorkerConfig(url=fake.url, token="s3cret"))
        assert client.submit(wire.EncodeRequest(["a"], 8)).result(TIMEOUT)
        client.close()
        assert "s3cret" not in repr(client.config)


def test_tensors_over_the_limit_are_refused_before_they_are_sent(client, worker):
    header = wire.TensorHeader("latent", wire.DType.F32, [1 << 30])
    with pytest.raises(WorkerError, match="larger than"):
        client.submit(denoise(1), [WireTensor(header, b"")]).result(TIMEOUT)
    assert worker.submitted == []


def test_without_a_worker_the_error_says_how_to_start_one():
    port = free_port()
    error = failure_of(WorkerConfig(url=f"ws://127.0.0.1:{port}/ws"))
    assert isinstance(error, NoWorker)
    assert f"No ovis-worker answers at 127.0.0.1:{port}" in error.message
    assert f"{sys.executable} -m pip install ovis-worker-bin" in error.hint
    assert "OVIS_WORKER_BIN" in error.hint and "cargo" not in error.hint


@pytest.fixture
def binary(tmp_path) -> str:
    """The fake worker as an executable."""
    script = tmp_path / "ovis-worker"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in binary is a shell script")
def test_a_known_binary_is_started_and_outlives_its_starter(binary, tmp_path):
    port = free_port()
    starter = f"""
from comfy_node import wire
from comfy_node.worker.client import WorkerClient
from comfy_node.settings.config import WorkerConfig
client = WorkerClient(WorkerConfig(
    url="ws://127.0.0.1:{port}/ws", binary={binary!r}, log={str(tmp_path / "log")!r}))
print(client.submit(wire.EncodeRequest(["a"], 8)).result(60) and client._link.process._process.pid)
"""
    root = Path(__file__).parent.parent
    ended = subprocess.run(
        [sys.executable, "-c", starter], cwd=root, capture_output=True, text=True, timeout=90
    )
    assert ended.returncode == 0, ended.stderr
    try:
        client = WorkerClient(WorkerConfig(url=f"ws://127.0.0.1:{port}/ws"))
        assert client.submit(wire.EncodeRequest(["a"], 8)).result(TIMEOUT)
        client.close()
    finally:
        os.kill(int(ended.stdout), signal.SIGTERM)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in binary is a shell script")
def test_a_binary_that_ends_at_once_shows_its_last_words(binary, tmp_path):
    url = f"ws://127.0.0.1:{free_port()}/ws"
    config = WorkerConfig(url=url, binary=binary, model="broken", log=str(tmp_path / "log"))
    error = failure_of(config)
    assert "exited with status 1" in error.message
    assert "The weights are broken." in error.hint


def test_a_worker_elsewhere_is_never_started(binary):
    config = WorkerConfig(url="ws://worker.invalid:7867/ws", binary=binary)
    error = failure_of(config)
    assert "No ovis-worker answers at worker.invalid:7867" in error.message
    assert "Check host, port and token" in error.hint


def test_a_client_is_shared_by_equal_settings(worker):
    config = WorkerConfig(url=worker.url)
    assert client_for(config) is client_for(WorkerConfig(url=worker.url))
    client_for(config).close()


# Settings


def test_the_default_worker_needs_no_settings():
    config = lookup.resolve("local", ComfyFolders(), {})
    assert (config.url, config.token, config.model) == ("ws://127.0.0.1:7867/ws", None, None)


def test_the_environment_describes_the_local_worker(tmp_path):
    environ = {
        "OVIS_WORKER_URL": "http://10.0.0.5:9000",
        "OVIS_WORKER_TOKEN": "t",
        "OVIS_WORKER_BIN": "/bin/w",
        "OVIS_WORKER_MODEL": "/m",
    }
    config = lookup.resolve("", ComfyFolders(tmp_path, tmp_path / "models"), environ)
    assert config.url == "ws://10.0.0.5:9000/ws"
    assert (config.token.reveal(), config.binary, config.model) == ("t", "/bin/w", "/m")


def test_the_settings_file_describes_any_worker_but_the_environment_only_local(tmp_path):
    workers = {"studio": {"url": "wss://gpu.example:443/ovis", "token": "t"}}
    (tmp_path / "ovis_worker.json").write_text(json.dumps({"workers": workers}))
    config = lookup.resolve("studio", ComfyFolders(tmp_path), {"OVIS_WORKER_TOKEN": "other"})
    assert (config.url, config.token.reveal()) == ("wss://gpu.example:443/ovis", "t")
    assert not config.is_on_this_machine


def test_comfyuis_models_folder_is_the_default_model_and_the_demo_model_until_there_are_weights(
    tmp_path,
):
    places = ComfyFolders(tmp_path, Path("/m"))
    config = lookup.resolve("local", places, {})
    assert (config.model, config.args) == (str(Path("/m")), ("--or-demo",))
    named = lookup.resolve("local", places, {"OVIS_WORKER_MODEL": "/other"})
    assert (named.model, named.args) == ("/other", ())


def test_comfyuis_own_tokenizer_goes_with_its_models_folder_that_has_none(tmp_path):
    models, tokenizer = tmp_path / "models", tmp_path / "source" / "qwen25_tokenizer"
    (models / "text_encoders" / "ovis").mkdir(parents=True)
    tokenizer.mkdir(parents=True)
    places = ComfyFolders(tmp_path, models, tokenizer)
    named = ("--tokenizer", str(tokenizer))
    assert lookup.resolve("local", places, {}).args == (*named, "--or-demo")
    assert lookup.resolve("local", places, {"OVIS_WORKER_MODEL": str(models)}).args == named
    assert lookup.resolve("local", places, {"OVIS_WORKER_MODEL": "/m"}).args == ()
    (models / "text_encoders" / "ovis" / "tokenizer.json").touch()
    assert lookup.resolve("local", places, {}).args == ("--or-demo",)


def test_a_tokenizer_that_is_named_in_the_settings_stays(tmp_path):
    entry = {"args": ["--device", "cpu", "--tokenizer=/t"]}
    (tmp_path / "ovis_worker.json").write_text(json.dumps({"workers": {"local": entry}}))
    places = ComfyFolders(tmp_path, tmp_path / "models", tmp_path)
    assert lookup.resolve("local", places, {}).args == (*entry["args"], "--or-demo")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"workers": {"x": 1}}', "is invalid"),
        ('{"workers": {"x": {"url": 1}}}', "is invalid"),
        ('{"workers": {"x": {"url": "ftp://h"}}}', "not a worker's address"),
        ('{"workers": {"x": {"url": "h:port"}}}', "not a worker's address"),
        ('{"workers": {}}', "not set up here"),
    ],
)
def test_settings_that_are_wrong_are_refused_with_a_sentence(tmp_path, text, sentence):
    (tmp_path / "ovis_worker.json").write_text(text)
    with pytest.raises(WorkerError, match=sentence):
        lookup.resolve("x", ComfyFolders(tmp_path), {})
