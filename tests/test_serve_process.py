"""`serve` as a process: who may use it, how it is monitored, and how it shuts down."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import aiohttp
import pytest
import torch

from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.texts import WorkerError
from comfy_node.worker.client import WorkerClient
from comfy_node.worker.job import Notice
from real_worker import RealWorker, command
from soak.wire_client import JobFailed, WireClient
from test_serve_jobs import LARGE, LONG_STEPS, Job, wait_until

TIMEOUT = 60


def ended(worker: RealWorker, within: float = TIMEOUT) -> int:
    """The exit status of the worker's process."""
    return worker.process.wait(timeout=within)


def refused(config: WorkerConfig) -> WorkerError:
    client = WorkerClient(config)
    try:
        with pytest.raises(WorkerError) as caught:
            client.connect().result(TIMEOUT)
        return caught.value
    finally:
        client.close()


@pytest.mark.parametrize("way", ["flag", "environment"])
def test_the_token(tiny: Path, tmp_path: Path, way: str) -> None:
    log = tmp_path / "log"
    with RealWorker(
        tiny / "diffusers", log, token="s3cret", token_by_flag=way == "flag", device="cpu"
    ) as worker:
        assert worker.encode(["a"], 8).shape == (1, 8, 64)
        for token in (None, "", "s3cre", "s3cret2"):
            error = refused(WorkerConfig(url=worker.config.url, token=token))
            assert error.code is wire.ErrorCode.UNAUTHORIZED
            assert "token" in error.message and "OVIS_WORKER_TOKEN" in error.hint
    assert "s3cret" not in log.read_text()


async def first_answer(address: str, message: object | bytes) -> object:
    """The worker's answer to a client's first message, before it closes the connection."""
    frame = message if isinstance(message, bytes) else bytes(wire.encode_client(message))
    async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{address}/ws") as ws:
        await ws.send_bytes(frame)
        answer = wire.decode_worker(await ws.receive_bytes(timeout=TIMEOUT))
        closing = await ws.receive(timeout=TIMEOUT)
        assert closing.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        return answer


@pytest.mark.parametrize(
    ("version", "older"),
    [
        (0, "client"),
        (wire.PROTOCOL_VERSION - 1, "client"),
        (wire.PROTOCOL_VERSION + 1, "worker"),
        (2**31, "worker"),
    ],
)
def test_another_protocol_version_is_refused(worker, version: int, older: str) -> None:
    hello = wire.ClientHello(wire.MAGIC, version, "a test", None)
    answer = asyncio.run(first_answer(worker.address, hello))
    assert isinstance(answer, wire.Refused)
    assert (answer.magic, answer.protocol) == (wire.MAGIC, wire.PROTOCOL_VERSION)
    assert answer.error.code is wire.ErrorCode.VERSION_MISMATCH
    assert f"protocol {version} " in answer.error.message
    assert f"protocol {wire.PROTOCOL_VERSION}." in answer.error.message
    assert f"Update the {older}" in answer.error.hint


def test_bytes_that_are_no_hello_are_refused(worker) -> None:
    for first in (b"\xff" * 40, b"", bytes(wire.encode_client(wire.StatusRequest()))):
        answer = asyncio.run(first_answer(worker.address, first))
        assert isinstance(answer, wire.Refused)
        assert answer.error.code is wire.ErrorCode.BAD_MESSAGE
    assert worker.encode(["a"], 8).shape == (1, 8, 64)


def test_health_and_metrics(worker) -> None:
    status, body = worker.get("/health")
    assert status == 200
    health = json.loads(body)
    assert health.pop("worker").startswith("ovis-worker ")
    # Other tests of this worker may have left before they acknowledged their results.
    assert health.pop("kept_bytes") <= 2 << 30
    assert health.pop("kept_jobs") >= 0
    (model,) = health.pop("models")
    assert model.pop("bytes") > 0
    expected = {"name": "default", "model": "diffusers", "precision": "f32", "state": "resident"}
    assert model == expected
    assert health == {
        "status": "ok",
        "protocol": wire.PROTOCOL_VERSION,
        "model": "diffusers",
        "device": "cpu",
        "precision": "f32",
        "memory": None,
        "queued": 0,
        "running": 0,
        "kept_bytes_limit": 2 << 30,
        "kept_seconds": 3600.0,
        "is_durable": False,
    }
    done = 'jobs_total{operation="encode",outcome="done"}'
    before = worker.metric(done)
    running = worker.seconds_running
    worker.encode(["a"], 8)
    assert worker.metric(done) == before + 1
    assert worker.seconds_running > running
    assert worker.metric("uptime_seconds") > 0
    assert worker.metric("busy_seconds_total") > 0
    assert worker.get("/elsewhere")[0] == 404


def test_the_log_says_what_it_computes_with(worker) -> None:
    log = worker.log.read_text()
    assert len(re.findall(r"INFO.*CPU, \d+ threads?, float32", log)) == 1
    assert log.index("CPU, ") < log.index("ready")


def test_a_web_page_cannot_connect(worker) -> None:
    async def connect() -> int:
        async with aiohttp.ClientSession() as session:
            url, headers = f"http://{worker.address}/ws", {"Origin": "http://example.org"}
            headers |= {"Connection": "Upgrade", "Upgrade": "websocket"}
            async with session.get(url, headers=headers) as answer:
                return answer.status

    assert asyncio.run(connect()) == 403


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_tells_everyone_and_exits_0(
    tiny: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    with RealWorker(tiny / "diffusers", tmp_path / "log", device="cpu") as worker:
        other = WorkerClient(worker.config)
        running = Job(worker.client, LONG_STEPS, LARGE)
        wait_until(lambda: running.step >= 1)
        queued = Job(other, LONG_STEPS, LARGE)
        wait_until(lambda: queued.positions == [0])
        seen = running.step
        wait_until(lambda: running.step > seen)
        # The signal arrives during a step, which is finished and reported before the shutdown.
        seen = running.step
        worker.process.send_signal(sent)
        assert ended(worker) == 0
        for job in (running, queued):
            # The client waits for another worker; the event contains the reason.
            wait_until(lambda job=job: job.of(Notice))
            assert "is shutting down" in job.of(Notice)[0].message
        # One more step if the signal arrived after the next step had begun.
        assert seen + 1 <= running.step <= seen + 2
        assert queued.of(wire.Started) == []
        other.close()


def test_a_signal_to_an_idle_worker(tiny: Path, tmp_path: Path) -> None:
    with RealWorker(tiny / "diffusers", tmp_path / "log", device="cpu") as worker:
        worker.encode(["a"], 8)
        begun = time.monotonic()
        worker.process.terminate()
        assert ended(worker) == 0
        assert time.monotonic() - begun < 5


def test_a_full_queue_says_so(tiny: Path, tmp_path: Path) -> None:
    with RealWorker(tiny / "diffusers", tmp_path / "log", device="cpu", queue=1) as worker:
        running = Job(worker.client, LONG_STEPS, LARGE)
        wait_until(lambda: running.step >= 1)
        queued = Job(worker.client, 1)
        wait_until(lambda: queued.positions == [0])
        hasty = WorkerClient(dataclasses.replace(worker.config, patience=0))
        assert Job(hasty, 1, seed=1).failure().code is wire.ErrorCode.QUEUE_FULL
        hasty.close()
        running.future.cancel()
        assert queued.latent().shape == (1, 16, 4, 4)


@pytest.mark.parametrize(
    ("absent", "operations"),
    [
        ("transformer", ["encode", "decode", "vae-encode"]),
        ("text_encoder", ["denoise", "decode", "vae-encode"]),
        ("vae", ["encode", "denoise"]),
    ],
)
def test_a_checkpoint_without_a_part(
    tiny: Path, tmp_path: Path, worker, absent: str, operations: list[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny / "diffusers", model, ignore=shutil.ignore_patterns(absent))
    whole = worker
    with RealWorker(model, tmp_path / "log", device="cpu", precision="f32") as partial:
        assert partial.client.connect().result(TIMEOUT).capabilities.operations == operations
        zeros, text = torch.zeros(1, 16, 4, 4), torch.zeros(1, 8, 64)
        jobs = {
            "encode": lambda worker: worker.encode(["a"], 8),
            "denoise": lambda worker: worker.denoise(zeros, text),
            "decode": lambda worker: worker.decode(zeros),
            "vae-encode": lambda worker: worker.vae_encode(torch.zeros(1, 16, 16, 3)),
        }
        for operation, run in jobs.items():
            if operation in operations:
                assert torch.equal(run(partial), run(whole))
                continue
            with pytest.raises(WorkerError) as caught:
                run(partial)
            assert caught.value.code is wire.ErrorCode.MISSING_MODEL
            assert operation in caught.value.message


def test_the_log_as_json(tiny: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with RealWorker(tiny / "diffusers", log, device="cpu", log_format="json") as worker:
        worker.encode(["a secret prompt"], 8)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    messages = [line["fields"]["message"] for line in lines]
    assert {"ready", "started", "done"} <= set(messages)
    ready = lines[messages.index("ready")]["fields"]
    assert ready["address"] == worker.address
    assert "a secret prompt" not in log.read_text()


def test_an_address_that_cannot_be_used(tiny: Path) -> None:
    model = {"model": tiny / "diffusers", "device": "cpu"}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = command("serve", **model, listen=address)
    assert result.returncode == 98
    assert f"error: another program has the address {address}" in result.stderr
    assert "--listen" in result.stderr.splitlines()[-1]
    wrong = command("serve", **model, listen="nonsense")
    assert wrong.returncode == 1
    assert "error: `nonsense` is not an address" in wrong.stderr


def test_the_number_of_connections(tiny: Path, tmp_path: Path) -> None:
    """An address gets no more connections than are free: of three places, it gets two."""
    model = tiny / "diffusers"
    with RealWorker(model, tmp_path / "log", device="cpu", connections=3) as worker:

        async def connect_twice_more() -> JobFailed:
            url = f"ws://{worker.address}/"
            async with WireClient(url, "second"):
                with pytest.raises(JobFailed) as caught:
                    async with WireClient(url, "third"):
                        pass
                return caught.value

        refusal = asyncio.run(connect_twice_more()).error
    assert refusal.code is wire.ErrorCode.QUEUE_FULL
    assert "has 2 connections, 2 of them from this address, and 1 places" in refusal.message


def test_it_listens_on_this_machine_only_unless_told() -> None:
    text = command("serve", help=True).stdout
    assert "[default: 127.0.0.1:7867]" in text
    assert "[default: 192]" in text
    assert "[default: 256]" in text
    assert "[default: 30]" in text
