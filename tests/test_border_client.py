"""No error between a node and the wire leaves a job unanswered; a worker's words are bounded."""

from __future__ import annotations

import asyncio
import json
import os
import re
import struct
import sys
from pathlib import Path

import pytest

from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.texts import WorkerError
from comfy_node.wire import WireTensor, transfer
from comfy_node.worker import client as clients
from comfy_node.worker import connection, link
from comfy_node.worker import process as worker_process
from comfy_node.worker.client import WorkerClient
from comfy_node.worker.errors import MAX_WORDS, NoWorker, StartFailed, from_wire
from fake_worker import FakeWorker
from test_client import TIMEOUT, client, denoise, free_port, latent, quick, wait_until, worker

FIXTURES = (client, quick, worker)  # pytest finds them by name
ENCODE = wire.EncodeRequest(["a"], 8)


@pytest.fixture(autouse=True)
def pace(quick):
    """Reconnects without delay."""


class Odd:
    """Whatever is asked of it fails."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"{name} is odd")

    def __len__(self) -> int:
        raise RuntimeError("its length is odd")


WITHOUT_BYTES = [
    wire.EncodeRequest([None], 8),
    wire.EncodeRequest([3], 8),
    wire.EncodeRequest([b"x"], 8),
    wire.EncodeRequest(None, 8),
    wire.EncodeRequest(Odd(), 8),
    wire.EncodeRequest(["\ud800"], 8),
    wire.EncodeRequest(["a"], None),
    wire.EncodeRequest(["a"], -1),
    wire.EncodeRequest(["a"], 1 << 40),
    wire.EncodeRequest(["a"], 1.5),
    wire.EncodeRequest(["a"], "8"),
    wire.EncodeRequest(["x" * wire.MAX_MESSAGE_BYTES], 8),
    wire.DenoiseRequest(1, 2, 1.0, None, wire.AutoSchedule()),
    wire.DenoiseRequest(1, 2, 1.0, "euler", None),
    wire.DenoiseRequest(1, 2, None, "euler", wire.AutoSchedule()),
    wire.DenoiseRequest(1, 2, 1.0, "euler", wire.AutoSchedule(), batch_index=[None]),
    wire.DenoiseRequest(1, 2, 1.0, "euler", wire.AutoSchedule(), batch_index=3),
    wire.DenoiseRequest(1, 2, 1.0, "euler", wire.AutoSchedule(), options=None),
    wire.DenoiseRequest(1, 2, 1.0, "euler", wire.AutoSchedule(), cache="fast"),
    wire.DenoiseRequest(1 << 64, 2, 1.0, "euler", wire.AutoSchedule()),
    None,
    Odd(),
    object(),
]


@pytest.mark.parametrize("request_", WITHOUT_BYTES, ids=range(len(WITHOUT_BYTES)))
def test_a_request_that_has_no_bytes_ends_with_a_sentence(client, worker, request_):
    with pytest.raises(WorkerError) as caught:
        client.submit(request_).result(TIMEOUT)
    assert "cannot be sent" in caught.value.message and len(caught.value.message) < 600
    assert client.submit(ENCODE).result(TIMEOUT), "the connection goes on"
    assert worker.connections == 1


BAD_TENSORS = [
    None,
    Odd(),
    WireTensor(None, b""),
    WireTensor(wire.TensorHeader("latent", wire.DType.F32, None), b""),
    WireTensor(wire.TensorHeader("latent", None, [1]), b"1234"),
    WireTensor(wire.TensorHeader(None, wire.DType.F32, [1]), b"1234"),
    WireTensor(wire.TensorHeader("latent", wire.DType.F32, [1]), None),
    WireTensor(wire.TensorHeader("latent", wire.DType.F32, [1]), "text"),
    WireTensor(wire.TensorHeader("latent", wire.DType.F32, [0]), b""),
    WireTensor(wire.TensorHeader("latent", wire.DType.F32, [-1]), b""),
]


@pytest.mark.parametrize("tensor", BAD_TENSORS, ids=range(len(BAD_TENSORS)))
def test_a_tensor_that_is_none_ends_its_job_with_a_sentence(client, tensor):
    with pytest.raises(WorkerError):
        client.submit(denoise(1), [tensor]).result(TIMEOUT)
    assert client.submit(ENCODE).result(TIMEOUT)


ERRORS = [RuntimeError, ValueError, KeyError, MemoryError, AssertionError, OSError, StopIteration]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (wire, "encode_client"),
        (wire, "decode_worker"),
        (transfer, "chunks"),
        (transfer, "check_set"),
        (transfer.Assembler, "push"),
        (connection.Connection, "_handle"),
        (connection.Connection, "_send"),
        (connection.Connection, "run"),
        (connection.Connection, "open"),
        (link.Link, "_open"),
        (clients.Pace, "observe"),
    ],
)
def test_wherever_an_error_is_raised_the_job_ends(monkeypatch, owner, name, error):
    def fail(*_: object, **__: object) -> None:
        raise error("out of order")

    with FakeWorker() as fake:
        client = WorkerClient(WorkerConfig(url=fake.url))
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(WorkerError):
                client.submit(denoise(1), [latent()]).result(TIMEOUT)
        assert client.submit(denoise(1), [latent()]).result(TIMEOUT), "the thread goes on"
        client.close()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_loop_ends_neither_the_thread_nor_leaves_a_job(monkeypatch, error):
    def fail(*_: object) -> None:
        raise error("now")

    with FakeWorker() as fake:
        client = WorkerClient(WorkerConfig(url=fake.url))
        with monkeypatch.context() as patch:
            patch.setattr(connection.Connection, "run", fail)
            with pytest.raises(WorkerError):
                client.submit(ENCODE).result(TIMEOUT)
        client._loop.call_soon_threadsafe(fail)
        assert client.submit(ENCODE).result(TIMEOUT)
        client.close()


@pytest.mark.parametrize("kind", [wire.Queued, wire.Started, wire.Progress])
def test_a_node_that_cannot_show_an_event_ends_its_own_job_only(client, worker, kind):
    def fail(event: object) -> None:
        if isinstance(event, kind):
            raise RuntimeError("cannot be shown")

    other = client.submit(denoise(20), [latent()])
    with pytest.raises(WorkerError, match="cannot be shown"):
        client.submit(denoise(2), [latent()], fail).result(TIMEOUT)
    assert other.result(TIMEOUT) and worker.connections == 1


def test_a_client_that_was_closed_answers_at_once(worker):
    client = WorkerClient(WorkerConfig(url=worker.url))
    client.close()
    client.close()
    for job in (client.submit(ENCODE), client.connect()):
        with pytest.raises(NoWorker, match="was closed by the node pack"):
            job.result(TIMEOUT)


def test_a_client_with_earlier_settings_retires_after_its_jobs(worker, monkeypatch):
    monkeypatch.setattr(clients, "_clients", {})
    earlier = clients.client_for(WorkerConfig("a", url=worker.url))
    job = earlier.submit(denoise(30), [latent()])
    wait_until(lambda: worker.received)
    later = clients.client_for(WorkerConfig("a", url=worker.url, token="new"))
    assert later is not earlier and list(clients._clients) == [later.config]
    assert job.result(TIMEOUT)
    wait_until(lambda: not earlier._thread.is_alive())
    later.close()


# A worker that is started

POSIX = pytest.mark.skipif(os.name == "nt", reason="the stand-in binary is a shell script")


def starts(tmp_path: Path, script: str, port: int) -> WorkerConfig:
    """A worker whose binary is a shell script."""
    binary = tmp_path / "w"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    url = f"ws://127.0.0.1:{port}/ws"
    return WorkerConfig(url=url, binary=str(binary), log=str(tmp_path / "w.log"))


@POSIX
def test_another_worker_that_still_loads_at_the_address_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(link, "OTHER_SECONDS", 0.5)
    port = free_port()
    config = starts(tmp_path, f"echo x >> {tmp_path}/runs; exit 98", port)
    note = json.dumps({"pid": os.getpid(), "address": config.address}).encode()
    (tmp_path / "w.pid").write_bytes(note)
    client = WorkerClient(config)
    job = client.submit(ENCODE)
    runs = tmp_path / "runs"
    wait_until(lambda: runs.exists() and len(runs.read_text().split()) > 1)
    assert client.starting and not job.done()
    with FakeWorker(port=port):
        assert job.result(TIMEOUT)
        assert not client.starting
        client._link.process._process.wait(TIMEOUT)
        worker_process.may_stop(config)
        assert (tmp_path / "w.pid").read_bytes() == note
    client.close()


@POSIX
def test_where_the_other_one_is_gone_the_worker_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(link, "OTHER_SECONDS", 0.5)
    fake = Path(__file__).parent / "fake_worker.py"
    once = f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; exit 98; }}"
    run = f'{once}\nexec "{sys.executable}" "{fake}" "$@"'
    client = WorkerClient(starts(tmp_path, run, free_port()))
    try:
        assert client.submit(ENCODE).result(TIMEOUT)
    finally:
        client._link.process._process.kill()
        client.close()


@POSIX
def test_an_address_that_something_else_holds_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(link, "START_SECONDS", 1)
    client = WorkerClient(starts(tmp_path, "exit 98", free_port()))
    with pytest.raises(StartFailed, match="Another program uses") as caught:
        client.submit(ENCODE).result(TIMEOUT)
    assert caught.value.hint
    client.close()


@POSIX
@pytest.mark.parametrize("script", ["kill -9 $$", "exit 137"])
def test_a_worker_that_the_system_killed_had_too_little_memory(tmp_path, script):
    client = WorkerClient(starts(tmp_path, f"echo loading; {script}", free_port()))
    with pytest.raises(StartFailed, match="memory ran out") as caught:
        client.submit(ENCODE).result(TIMEOUT)
    assert "--precision" in caught.value.hint
    assert re.search(r"The last lines of its log, .*:\nloading", caught.value.hint)
    assert "内存不足" in caught.value.text("zh")
    client.close()


# What a worker says

JOB = bytes(16)


def test_messages_of_a_newer_worker_are_passed_over():
    unknown = [struct.pack("<I", number) + b"what is this" for number in (14, 15, 1 << 31)]
    with FakeWorker(frames_after_hello=[*unknown, struct.pack("<I", 14)]) as fake:
        client = WorkerClient(WorkerConfig(url=fake.url))
        assert client.submit(ENCODE).result(TIMEOUT)
        assert fake.connections == 1
        client.close()


@pytest.mark.parametrize("code", [15, 99, 1 << 31])
def test_an_error_code_of_a_newer_worker_is_an_error_like_any_other(code):
    frame = wire.encode_worker(wire.Failed(JOB, wire.WireError(code, "It is odd.", "Wait.")))
    error = from_wire(wire.decode_worker(frame).error)
    assert (error.code, error.text("en")) == (code, "It is odd.\nWait.")
    assert error.text("zh") == "It is odd.\nWait."


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("line\r\nline", "line line"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb", "a\\u202eb"),
        ("x" * 10_000, "x" * MAX_WORDS + "…"),
        ("\0", "\\x00"),
        ("{curly} {0} %s", "{curly} {0} %s"),
    ],
)
def test_a_workers_words_are_bounded_and_escaped(said, shown):
    error = from_wire(wire.WireError(wire.ErrorCode.INTERNAL, said, said))
    assert error.message == error.hint == shown
    assert shown in error.text("zh")


NOT_MESSAGES = {
    "a text": "hello",
    "no bytes": b"",
    "half a number": b"\x02\x00",
    "a chunk of no job's": None,
    "a damaged message": struct.pack("<I", 4) + b"short",
}


@pytest.mark.parametrize("case", NOT_MESSAGES)
def test_what_is_no_message_ends_the_connection_and_not_the_client(case, monkeypatch):
    frame = NOT_MESSAGES[case]
    if frame is None:  # belongs to no job: ignored
        frame = bytes(wire.encode_worker(wire.Chunk(JOB, 0, 0, b"1234")))
    with FakeWorker() as fake:
        client = WorkerClient(WorkerConfig(url=fake.url))
        job = client.submit(denoise(50), [latent()])
        wait_until(lambda: fake.received)
        socket = fake.sessions[0].socket
        send = socket.send_str if isinstance(frame, str) else socket.send_bytes
        asyncio.run_coroutine_threadsafe(send(frame), fake._loop).result(TIMEOUT)
        if case == "a chunk of no job's":
            assert job.result(TIMEOUT)
        else:
            with pytest.raises(WorkerError, match="sent an invalid message"):
                job.result(TIMEOUT)
        assert client.submit(denoise(1), [latent()]).result(TIMEOUT)
        client.close()
