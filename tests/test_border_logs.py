"""Edge cases of the log: what is written, where, and what happens if nobody reads it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
import torch

from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.texts import WorkerError
from comfy_node.worker.client import WorkerClient
from real_worker import RealWorker, binary, flags, free_port

EVIL = "x\n2026-01-01T00:00:00.000000Z ERROR forged: y=1\r\x1b[31m\u202e\x9b2J"
UNSAFE = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)
LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z +(ERROR|WARN|INFO|DEBUG|TRACE) ")


class Served(RealWorker):
    """A worker whose standard error the test redirects."""

    def __init__(self, model: Path, stderr: int, env: dict[str, str], **values: object) -> None:
        token = values.pop("token", None)
        self.log = Path(os.devnull)
        self.seconds_running = 0.0
        self.address = f"127.0.0.1:{free_port()}"
        self.config = WorkerConfig(url=f"ws://{self.address}/ws", token=token)
        self.client = WorkerClient(self.config)
        self.process = subprocess.Popen(
            [binary(), "serve", *flags(model=model, listen=self.address, device="cpu", **values)],
            stderr=stderr,
            env={**os.environ, "OVIS_WORKER_LOG": "info", **env}
            | ({"OVIS_WORKER_TOKEN": token} if token else {}),
        )

    def __enter__(self) -> Served:
        self._reach()
        return self


@contextmanager
def piped(model: Path, size: int | None = None, **env: str) -> Iterator[tuple[Served, int]]:
    """A worker that logs to a pipe, and the pipe's reading end."""
    reading, writing = os.pipe()
    if size:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, size)
    worker = Served(model, writing, env)
    os.close(writing)
    with worker:
        yield worker, reading


def logged(tiny: Path, folder: Path, act: Callable, **values: object) -> list[str]:
    """The lines that a worker logs while something is done."""
    log = folder / "log"
    env = values.pop("env", {})
    with (
        log.open("wb") as file,
        Served(tiny / "diffusers", file.fileno(), env, **values) as worker,
    ):
        act(worker)
    text = log.read_bytes().decode()
    assert text.endswith("\n")
    return text.splitlines()


def many_jobs(worker: RealWorker, count: int = 40) -> None:
    for _ in range(count):
        assert worker.encode(["a"], 8).shape == (1, 8, 64)


# Readers


def test_a_reader_that_ends_does_not_end_the_worker(tiny: Path) -> None:
    with piped(tiny / "diffusers") as (worker, reading):
        os.read(reading, 1 << 16)
        os.close(reading)
        many_jobs(worker)
        assert json.loads(worker.get("/health")[1])["status"] == "ok"
        assert worker.process.poll() is None
        worker.process.terminate()
        assert worker.process.wait(30) == 0


async def refused_jobs(address: str, count: int) -> None:
    """Sends jobs that are refused, each with a line in the log, as fast as possible."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{address}/ws") as ws:
        hello = wire.ClientHello(wire.MAGIC, wire.PROTOCOL_VERSION, "a test", None)
        await ws.send_bytes(bytes(wire.encode_client(hello)))
        await ws.receive_bytes(timeout=30)
        for _ in range(count):
            submit = wire.Submit(uuid.uuid4().bytes, wire.DecodeRequest(), [])
            await ws.send_bytes(bytes(wire.encode_client(submit)))
            await ws.receive_bytes(timeout=30)


def test_a_reader_that_stalls_holds_nothing_and_is_told(tiny: Path) -> None:
    with piped(tiny / "diffusers", size=4096) as (worker, reading):
        # More than a pipe and the worker's own buffer hold.
        asyncio.run(refused_jobs(worker.address, 10_000))
        many_jobs(worker, 3)
        text, deadline = b"", time.monotonic() + 60
        while b"were dropped" not in text or not text.endswith(b"\n"):
            assert time.monotonic() < deadline
            if select.select([reading], [], [], 1)[0]:
                text += os.read(reading, 1 << 16)
            else:
                many_jobs(worker, 1)
        lines = text.decode().splitlines()
        assert all(LINE.match(line) for line in lines)
        told = [
            line for line in lines if "WARN ovis_worker::logging: log lines were dropped" in line
        ]
        refused = sum("job not accepted" in line for line in lines)
        assert len(told) == 1
        assert 0 < 10_000 - refused <= int(told[0].rpartition("dropped=")[2]) < 10_000
        # The log is complete again.
        many_jobs(worker, 1)
        assert select.select([reading], [], [], 10)[0]
        os.close(reading)


def test_a_stalled_reader_of_generate(tiny: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    out = tmp_path / "x.png"
    values = {"model": tiny / "diffusers", "prompt": "a", "width": 64, "height": 48, "steps": 200}
    process = subprocess.Popen(
        [binary(), "generate", *flags(**values, cfg=1, device="cpu", out=out)], stderr=writing
    )
    os.close(writing)
    assert process.wait(120) == 0
    assert out.is_file()
    os.close(reading)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_without_room_for_the_log(tiny: Path) -> None:
    with (
        Path("/dev/full").open("wb") as full,
        Served(tiny / "diffusers", full.fileno(), {}) as worker,
    ):
        many_jobs(worker, 5)


# What is written


def a_refused_sampler(worker: RealWorker) -> None:
    request = wire.DenoiseRequest(0, 1, 1.0, EVIL, wire.AutoSchedule())
    with pytest.raises(WorkerError):
        worker.submit(request, positive=torch.zeros(1, 8, 64), latent=torch.zeros(1, 16, 2, 2))


def a_refused_tensor(worker: RealWorker) -> None:
    with pytest.raises(WorkerError):
        worker.submit(wire.DecodeRequest(), **{EVIL[:60]: torch.zeros(1, 16, 2, 2)})


def a_named_client(worker: RealWorker) -> None:
    async def hello() -> None:
        message = wire.ClientHello(wire.MAGIC, wire.PROTOCOL_VERSION, EVIL * 1000, None)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://{worker.address}/ws") as ws,
        ):
            await ws.send_bytes(bytes(wire.encode_client(message)))
            await ws.receive(timeout=30)

    asyncio.run(hello())


def an_odd_path(worker: RealWorker) -> None:
    worker.get("/%1b[31m?x=%0a")


ACTS = [a_refused_sampler, a_refused_tensor, a_named_client, an_odd_path]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("level", ["info", "trace"])
def test_no_name_forges_a_line_or_steers_a_terminal(
    tiny: Path, tmp_path: Path, act: Callable, level: str
) -> None:
    lines = logged(tiny, tmp_path, act, env={"OVIS_WORKER_LOG": level})
    assert not any(UNSAFE.search(line) for line in lines)
    assert all(LINE.match(line) for line in lines), lines
    assert not any(re.match(r"\S+ +ERROR forged", line) for line in lines)


@pytest.mark.parametrize("act", ACTS)
def test_the_same_as_json(tiny: Path, tmp_path: Path, act: Callable) -> None:
    lines = logged(tiny, tmp_path, act, log_format="json", env={"OVIS_WORKER_LOG": "trace"})
    assert not any(UNSAFE.search(line) for line in lines)
    assert all({"timestamp", "level", "fields", "target"} <= set(json.loads(x)) for x in lines)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_lines_are_bounded(tiny: Path, tmp_path: Path, log_format: str) -> None:
    def act(worker: RealWorker) -> None:
        options = wire.SamplerOptions(solver_type="x" * 1_000_000)
        request = wire.DenoiseRequest(
            0, 1, 1.0, "dpmpp_2m_sde", wire.AutoSchedule(), options=options
        )
        with pytest.raises(WorkerError):
            worker.submit(request, positive=torch.zeros(1, 8, 64), latent=torch.zeros(1, 16, 2, 2))
        a_named_client(worker)

    lines = logged(tiny, tmp_path, act, log_format=log_format)
    assert max(map(len, lines)) < 24 << 10
    assert sum(map(len, lines)) < 200 << 10


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "level", ["trace", "tungstenite=trace,trace", "hyper=trace,tokio_tungstenite=trace"]
)
def test_no_level_shows_the_token(tiny: Path, tmp_path: Path, level: str, log_format: str) -> None:
    token = "s3cret-token-value"

    def act(worker: RealWorker) -> None:
        many_jobs(worker, 2)
        wrong = WorkerClient(WorkerConfig(url=worker.config.url, token="another-s3cret"))
        with pytest.raises(WorkerError):
            wrong.connect().result(30)
        wrong.close()

    lines = logged(
        tiny, tmp_path, act, log_format=log_format, token=token,
        env={"OVIS_WORKER_LOG": level, "RUST_LOG": "trace"},
    )  # fmt: skip
    text = "\n".join(lines)
    assert "ready" in text and "s3cret" not in text
    # It is not written as a list of bytes either.
    assert ", ".join(str(byte) for byte in b"s3cret") not in text


# Colours and levels


def terminal_output(tiny: Path, **env: str) -> str:
    """The output of a worker on a terminal until it is ready."""
    ours, theirs = pty.openpty()
    with Served(tiny / "diffusers", theirs, {"NO_COLOR": "", **env}):
        time.sleep(0.2)
        text = os.read(ours, 1 << 16).decode()
    os.close(theirs)
    os.close(ours)
    return text


def test_colours_on_a_terminal_only(tiny: Path, tmp_path: Path) -> None:
    assert "\x1b[" in terminal_output(tiny)
    assert "\x1b" not in terminal_output(tiny, NO_COLOR="1")
    assert not any("\x1b" in line for line in logged(tiny, tmp_path, lambda worker: None))


@pytest.mark.parametrize(
    ("value", "told", "shown"),
    [
        ("", False, {"INFO"}),
        ("  ", False, {"INFO"}),
        ("warn", False, set()),
        ("off", False, set()),
        ("debug", False, {"INFO", "DEBUG"}),
        ("ovis_worker::server=debug", False, {"INFO", "DEBUG"}),
        ("debgu", True, {"INFO", "WARN"}),
        ("ovis_worker=loud", True, {"INFO", "WARN"}),
        ("a=b=c,[[", True, {"INFO", "WARN"}),
        ("x\n\x1b[31m" * 10_000, True, {"INFO", "WARN"}),
        (b"\xff\xfe", True, {"INFO", "WARN"}),
    ],
)
def test_the_filter(tiny: Path, tmp_path: Path, value: str | bytes, told: bool, shown: set) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        env = {"OVIS_WORKER_LOG": value}
        with Served(tiny / "diffusers", file.fileno(), env) as worker:
            many_jobs(worker, 1)
            worker.get("/health")
    lines = log.read_text().splitlines()
    assert {line.split()[1] for line in lines} == shown
    complaints = [line for line in lines if "OVIS_WORKER_LOG is " in line]
    assert len(complaints) == told and all(len(line) < 2500 for line in complaints)


def test_a_jobs_lines_name_it(tiny: Path, tmp_path: Path) -> None:
    lines = logged(tiny, tmp_path, lambda worker: many_jobs(worker, 1))
    started = [line for line in lines if line.endswith(": started")]
    assert len(started) == 1
    assert re.search(r"job\{id=[0-9a-f-]{36} operation=encode client=\d+", started[0])
