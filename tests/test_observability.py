"""What an operator sees of a running worker: its log, its metrics, its health, its exit status."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
import urllib.request
import uuid
from hashlib import sha256
from pathlib import Path

import pytest

from comfy_node import wire
from real_worker import ROOT, RealWorker
from soak.wire_client import ConnectionEnded, JobFailed, WireClient
from test_serve_jobs import LARGE, LONG_STEPS, Job, denoise_tensors, wait_until

TOKEN = "a-t0ken-that-no-line-may-show"
SECRET = bytes(range(100, 132))
HUGE = 128
"""Height and width of a latent of which one step takes longer than ``HANG_SECONDS``."""
HANG_SECONDS = 0.2


def denoise(steps: int) -> wire.DenoiseRequest:
    return wire.DenoiseRequest(1, steps, 1.0, "euler", wire.AutoSchedule())


# The log


class Line:
    """A line of the log, with the fields of its spans."""

    def __init__(self, text: str) -> None:
        self.text = text
        event = json.loads(text)
        assert isinstance(event, dict)
        assert event.keys() >= {"timestamp", "level", "target", "fields"}, text
        self.message: str = event["fields"].get("message", "")
        self.fields: dict[str, object] = {}
        for span in event.get("spans", []):
            names = {"id": "job"} if span["name"] == "job" else {}
            self.fields |= {names.get(k, k): v for k, v in span.items() if k != "name"}
        self.fields |= event["fields"]


async def jobs_over_two_connections(worker: RealWorker) -> tuple[str, str]:
    """Runs a job, whose result a second connection claims; and a job that fails."""
    url = f"ws://{worker.address}/"
    async with WireClient(url, "first", SECRET, TOKEN) as client:
        job = await client.submit(denoise(2), denoise_tensors(4))
        while not isinstance(await client.receive(), wire.Done):
            pass
    async with WireClient(url, "second", SECRET, TOKEN) as client:
        await client.send(wire.Claim(job, 0))
        async for _ in client.until_done(job):
            pass
        wrong = await client.submit(denoise(0), denoise_tensors(4))
        with pytest.raises(JobFailed):
            while True:
                await client.receive()
    return str(uuid.UUID(bytes=job)), str(uuid.UUID(bytes=wrong))


def test_each_line_about_a_job_says_whose_it_is(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVIS_WORKER_LOG", "debug")
    log = tmp_path / "log"
    options = {"device": "cpu", "log_format": "json", "state_dir": tmp_path / "state"}
    with RealWorker(tiny / "diffusers", log, token=TOKEN, token_by_flag=False, **options) as worker:
        job, wrong = asyncio.run(jobs_over_two_connections(worker))
        request = urllib.request.Request(f"http://{worker.address}/metrics")
        request.add_header("Authorization", f"Bearer {TOKEN}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
    text = log.read_text()
    lines = [Line(line) for line in text.splitlines()]

    hello = {line.fields["name"]: line for line in lines if line.message == "hello"}
    assert {"first", "second"} <= hello.keys()
    peers = {name: line.fields["peer"] for name, line in hello.items()}
    assert all(str(peer).startswith("127.0.0.1:") for peer in peers.values())
    assert peers["first"] != peers["second"]

    owner = sha256(b"ovis-worker owner of a secret\0" + SECRET).hexdigest()[:8]
    about = [line for line in lines if line.fields.get("job") == job]
    assert {"started", "step", "done", "claimed"} <= {line.message for line in about}
    for line in about:
        of = "second" if line.message == "claimed" else "first"
        assert line.fields["peer"] == peers[of], line.text
        assert line.fields["owner"] == owner, line.text
        assert isinstance(line.fields["client"], int), line.text
    clients = {line.message: line.fields["client"] for line in about}
    assert clients["started"] == clients["done"] != clients["claimed"]
    # A job that was refused never had an owner's place, but its connection is known.
    refused = [line for line in lines if line.fields.get("job") == wrong]
    assert refused, text
    for line in refused:
        assert line.fields["peer"] == peers["second"], line.text
        assert line.fields["client"] == clients["claimed"], line.text

    shown = text.lower()
    secrets = [TOKEN.encode(), SECRET]
    for hidden in [
        TOKEN,
        *(form(one) for one in secrets for form in (bytes.hex, as_base64, as_list)),
        sha256(TOKEN.encode()).hexdigest(),
        sha256(SECRET).hexdigest(),
    ]:
        assert hidden.lower() not in shown, hidden


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def as_list(data: bytes) -> str:
    """As Rust's `Debug` writes bytes."""
    return ", ".join(map(str, data))


# Metrics


def documented_metrics() -> dict[str, str]:
    """The type of each metric in the table of the metrics' document."""
    text = (ROOT / "packaging/grafana/README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(ovis_\w+)` \| (\w+) \|", text, re.MULTILINE))


def test_every_metric_is_documented_with_its_type(worker: RealWorker) -> None:
    text = worker.get("/metrics")[1]
    served = dict(re.findall(r"^# TYPE (ovis_\w+) (\w+)$", text, re.MULTILINE))
    assert len(served) > 25
    assert documented_metrics() == served


def test_every_code_and_reason_is_counted_from_the_beginning(worker: RealWorker) -> None:
    text = worker.get("/metrics")[1]
    codes = re.findall(r'^ovis_errors_total\{code="([\w-]+)"\} \d+$', text, re.MULTILINE)
    assert sorted(codes) == sorted(c.name.lower().replace("_", "-") for c in wire.ErrorCode)
    reasons = re.findall(r'^ovis_refusals_total\{reason="([\w-]+)"\} \d+$', text, re.MULTILINE)
    document = (ROOT / "packaging/grafana/README.md").read_text(encoding="utf-8")
    row = re.search(r"^\| `ovis_refusals_total`.*$", document, re.MULTILINE)
    assert row is not None
    documented = re.findall(r"`([\w-]+)` \(", row[0].split("`reason`")[1])
    assert sorted(reasons) == sorted(documented)


# Health


def readiness(worker: RealWorker) -> tuple[int, str | None]:
    status, body = worker.get("/readyz")
    answer = json.loads(body)
    assert answer["ready"] == (status == 200)
    return status, answer["reason"]


def test_a_full_queue_is_alive_and_not_ready(tiny: Path, tmp_path: Path) -> None:
    with RealWorker(tiny / "diffusers", tmp_path / "log", device="cpu", queue=1) as worker:
        assert (worker.get("/healthz")[0], readiness(worker)) == (200, (200, None))
        assert worker.metric("ready") == 1
        running = Job(worker.client, LONG_STEPS, LARGE)
        wait_until(lambda: running.step >= 1)
        assert (worker.get("/healthz")[0], readiness(worker)) == (200, (200, None))
        queued = Job(worker.client, 1)
        wait_until(lambda: queued.positions == [0])
        assert readiness(worker) == (503, "the queue is full")
        assert worker.get("/healthz")[0] == 200
        assert worker.metric("ready") == 0
        running.future.cancel()
        queued.latent()
        wait_until(lambda: worker.metric("jobs_running") == 0)
        assert readiness(worker) == (200, None)


def test_a_drained_worker_is_alive_and_not_ready(tiny: Path, tmp_path: Path) -> None:
    model, log = tiny / "diffusers", tmp_path / "log"
    with RealWorker(model, log, token=TOKEN, device="cpu") as worker:
        running = Job(worker.client, LONG_STEPS, LARGE)
        wait_until(lambda: running.step >= 1)
        assert readiness(worker) == (200, None)
        drain = urllib.request.Request(f"http://{worker.address}/drain", method="POST")
        drain.add_header("Authorization", f"Bearer {TOKEN}")
        urllib.request.urlopen(drain, timeout=30).close()
        assert readiness(worker) == (503, "the worker is being drained")
        assert worker.get("/healthz") == (200, '{"alive":true}\n')
        seen = running.step
        wait_until(lambda: running.step > seen)
        running.future.cancel()


# A device that hangs


async def told(client: WireClient) -> tuple[str, list[wire.ErrorCode]]:
    """Why the worker ends, and how jobs failed before."""
    failed = []
    while True:
        try:
            message = await client.receive()
        except JobFailed as error:
            failed.append(error.error.code)
            continue
        if isinstance(message, wire.ShuttingDown):
            with pytest.raises(ConnectionEnded):
                await client.receive()
            return message.reason, failed


@pytest.mark.parametrize("is_durable", [False, True])
def test_a_device_that_hangs_ends_the_process(tiny: Path, tmp_path: Path, is_durable: bool) -> None:
    """A step that takes longer than the watchdog allows stands for one that never ends."""
    log = tmp_path / "log"
    options = {"device": "cpu", "log_format": "json"}
    if is_durable:
        options["state_dir"] = tmp_path / "state"

    async def hang(worker: RealWorker) -> tuple[bytes, float]:
        async with WireClient(f"ws://{worker.address}/", "hanging", SECRET) as client:
            job = await client.submit(denoise(1), denoise_tensors(HUGE))
            reason, failed = await told(client)
            at = time.monotonic()
        assert "does not answer" in reason
        # A job in the state folder has not failed.
        assert failed == ([] if is_durable else [wire.ErrorCode.SHUTTING_DOWN])
        return job, at

    with RealWorker(tiny / "diffusers", log, watchdog=HANG_SECONDS, **options) as worker:
        job, at = asyncio.run(hang(worker))
        assert worker.process.wait(30) == 75
        # Nobody waits for the step: the clients and the state folder take 2 seconds each at most.
        assert time.monotonic() - at < 8
    name = str(uuid.UUID(bytes=job))
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    hangs = [one for one in map(Line, lines) if one.message == "the device hangs"]
    assert [(one.fields["operation"], one.fields["job"]) for one in hangs] == [
        ("denoise step", name)
    ]
    if is_durable:
        with RealWorker(tiny / "diffusers", tmp_path / "next", **options) as worker:
            asyncio.run(goes_on(worker, job))


async def goes_on(worker: RealWorker, job: bytes) -> None:
    """The next process has the job, and finishes it."""
    async with WireClient(f"ws://{worker.address}/", "hanging", SECRET) as client:
        await client.send(wire.Claim(job, 0))
        tensors: object = None
        async for tensors in client.until_done(job):  # noqa: B007 (the last item is the result)
            pass
    (latent,) = tensors
    assert latent.header.shape == [1, 16, HUGE, HUGE]
