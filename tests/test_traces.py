"""Traces from a node to the worker's steps, as a collector receives them."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import fake_comfy
from comfy_node import wire
from comfy_node.settings.config import ENVIRONMENT
from comfy_node.texts import WorkerError
from comfy_node.worker import client as clients
from comfy_node.worker import tracing
from otlp_collector import Collector, Span
from real_worker import RealWorker, free_port
from test_border_nodes import run
from test_serve_jobs import denoise_tensors, wait_until

STEPS = 3
PROMPT = "0a4dd4a2-2f21-4a3c-8b86-d3d4a5a5d9f3"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
VARIABLES = (
    tracing.ENDPOINT,
    tracing.TRACES_ENDPOINT,
    tracing.HEADERS,
    tracing.DISABLED,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """An environment that names no collector, and no clients of other tests."""
    monkeypatch.setattr(clients, "_clients", {})
    tracing._exporter.cache_clear()
    for name in (*VARIABLES, *ENVIRONMENT.values()):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def serve(tiny: Path, log: Path, **values: object) -> Iterator[RealWorker]:
    with RealWorker(
        tiny / "diffusers", log, device="cpu", precision="f32", log_format="json", **values
    ) as worker:
        yield worker


def click(worker: RealWorker, folder: Path, monkeypatch, prompt_id: str | None = PROMPT) -> None:
    """One prompt of ComfyUI: encode, denoise, decode."""
    monkeypatch.setenv("OVIS_WORKER_URL", worker.config.url)
    with fake_comfy.installed(folder) as nodes:
        if prompt_id is not None:
            fake_comfy.PromptServer.instance.last_prompt_id = prompt_id
        listed = asyncio.run(nodes.OvisExtension().get_node_list())
        by_name = {node.define_schema().node_id: node for node in listed}
        (positive,) = run(by_name["OvisEncode"])
        latent = {"samples": torch.zeros(1, 16, 4, 6)}
        inputs = {"positive": positive, "latent": latent, "steps": STEPS, "cfg": 1.0}
        (latent,) = run(by_name["OvisDenoise"], **inputs)
        run(by_name["OvisDecode"], latent=latent)
        for client in clients._clients.values():
            client.close()
        clients._clients.clear()


def children(spans: list[Span], parent: Span) -> list[Span]:
    """The spans below one, in the order of their beginning."""
    found = [span for span in spans if span.parent_id == parent.span_id]
    for span in found:
        assert parent.start <= span.start <= span.end <= parent.end, (span, parent)
    return sorted(found, key=lambda span: span.start)


def is_idle(worker: RealWorker) -> bool:
    health = json.loads(worker.get("/health")[1])
    return health["running"] == health["queued"] == 0


def test_one_prompt_is_one_trace_from_the_nodes_to_the_steps(tiny, tmp_path, monkeypatch):
    with Collector() as collector:
        monkeypatch.setenv(tracing.ENDPOINT, collector.url)
        with serve(tiny, tmp_path / "log") as worker:
            click(worker, tmp_path, monkeypatch)
        # The worker delivers its last spans before it ends.
        of_worker = collector.of_service("ovis-worker")
        wait_until(lambda: len(collector.of_service("ovis-comfyui")) == 3)
    spans = collector.spans
    assert set(collector.requests) == {"/v1/traces"}
    assert {span.trace_id for span in spans} == {tracing.trace_of(PROMPT)}
    assert len({span.span_id for span in spans}) == len(spans) == 3 + len(of_worker)

    nodes = sorted(collector.of_service("ovis-comfyui"), key=lambda span: span.start)
    assert [node.name for node in nodes] == ["node encode", "node denoise", "node decode"]
    for node in nodes:
        assert (node.parent_id, node.status) == ("", 1)
        assert node.attributes["comfyui.prompt_id"] == PROMPT
        assert node.attributes["comfyui.node_id"] == "7"
        operation = node.name.removeprefix("node ")
        (job,) = children(spans, node)
        assert (job.name, job.status) == ("job", 1)
        assert job.attributes["ovis.operation"] == operation
        assert [part.name for part in children(spans, job)] == ["queue", operation]

    denoise = next(span for span in spans if span.name == "denoise")
    job = next(span for span in spans if span.span_id == denoise.parent_id)
    expected = {"ovis.width": 48, "ovis.height": 32, "ovis.batch": 1, "ovis.steps": STEPS}
    assert expected.items() <= job.attributes.items()
    assert job.attributes["ovis.sampler"] == "euler"
    steps = children(spans, denoise)
    assert [step.attributes["ovis.step"] for step in steps] == [1, 2, 3]
    sigmas = [step.attributes["ovis.sigma"] for step in steps]
    assert sigmas == sorted(sigmas, reverse=True) and sigmas[-1] == 0
    for earlier, later in pairwise(steps):
        assert earlier.end <= later.start
    assert len(of_worker) == 3 * 3 + STEPS


def test_without_a_collector_nothing_is_sent(tiny, tmp_path, monkeypatch):
    submitted = []
    original = clients.WorkerClient.submit

    def submit(self, request, tensors=(), on_event=lambda _: None, options=None):
        submitted.append(options)
        return original(self, request, tensors, on_event, options)

    monkeypatch.setattr(clients.WorkerClient, "submit", submit)
    with Collector() as collector, serve(tiny, tmp_path / "log") as worker:
        click(worker, tmp_path, monkeypatch)
        monkeypatch.setenv(tracing.ENDPOINT, collector.url)
        monkeypatch.setenv(tracing.DISABLED, "true")
        click(worker, tmp_path, monkeypatch)
        time.sleep(2 * tracing.GATHER_SECONDS)
    assert [options.trace for options in submitted] == [None] * 6
    assert not collector.requests
    assert tracing._exporter.cache_info().currsize == 0


@pytest.mark.parametrize("answers", [False, None], ids=["refuses", "is silent"])
def test_a_dead_collector_costs_no_job_anything(answers, tiny, tmp_path, monkeypatch, caplog):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        port = free_port() if answers is False else silent.getsockname()[1]
        monkeypatch.setenv(tracing.ENDPOINT, f"http://user:secret@127.0.0.1:{port}")
        monkeypatch.setattr(tracing, "TIMEOUT_SECONDS", 1.0)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        log = tmp_path / "log"
        with caplog.at_level(logging.WARNING), serve(tiny, log) as worker:
            click(worker, tmp_path, monkeypatch)
            began = time.monotonic()
            for _ in range(3):
                click(worker, tmp_path, monkeypatch)
            took = time.monotonic() - began
            marker = "races cannot be delivered"
            wait_until(lambda: marker in caplog.text and marker in log.read_text())
            time.sleep(4 * tracing.GATHER_SECONDS)
            stopping = time.monotonic()
        stopped = time.monotonic() - stopping
    # Nine jobs; one that waited for a delivery would take longer alone.
    assert took < 5.0
    assert stopped < 10.0
    assert worker.process.returncode == 0
    text = log.read_text()
    assert caplog.text.count(marker) == text.count(marker) == 1
    assert "secret" not in caplog.text + text


def test_a_job_that_fails_says_so_in_its_span(tiny, tmp_path):
    with Collector() as collector, serve(tiny, tmp_path / "log", otlp=collector.url) as worker:
        options = wire.JobOptions(trace=f"00-{TRACE}-{PARENT}-01", deadline=0.5)
        request = wire.DenoiseRequest(0, 1000, 1.0, "euler", wire.AutoSchedule())
        job = worker.client.submit(request, denoise_tensors(64), options=options)
        with pytest.raises(WorkerError):
            job.result(60)
    (job,) = [span for span in collector.spans if span.name == "job"]
    assert (job.trace_id, job.parent_id) == (TRACE, PARENT)
    assert (job.status, job.message) == (2, "deadline-exceeded")


def test_a_job_of_the_state_folder_goes_on_in_its_trace(tiny, tmp_path):
    state = tmp_path / "state"
    with Collector() as collector:
        with serve(tiny, tmp_path / "1", otlp=collector.url, state_dir=state) as worker:
            options = wire.JobOptions(trace=f"00-{TRACE}-{PARENT}-01")
            request = wire.DenoiseRequest(0, 200, 1.0, "euler", wire.AutoSchedule())
            events: list = []
            worker.client.submit(request, denoise_tensors(32), events.append, options)
            wait_until(lambda: any(isinstance(event, wire.Progress) for event in events))
        with serve(tiny, tmp_path / "2", otlp=collector.url, state_dir=state) as worker:
            wait_until(lambda: is_idle(worker))
    first, second = sorted(
        (span for span in collector.spans if span.name == "job"), key=lambda span: span.start
    )
    for job in (first, second):
        assert (job.trace_id, job.parent_id) == (TRACE, PARENT)
    assert first.attributes["ovis.job.id"] == second.attributes["ovis.job.id"]
    assert (first.status, first.message) == (2, "interrupted")
    assert second.status == 1
    steps = [span.attributes["ovis.step"] for span in collector.spans if span.name == "step"]
    assert sorted(steps) == list(range(1, 201))


def test_an_address_that_cannot_work_is_refused(tiny, tmp_path):
    with pytest.raises(AssertionError, match="--otlp is no address"):  # noqa: SIM117
        with serve(tiny, tmp_path / "log", otlp="https://user:secret@127.0.0.1:1"):
            pass
    assert "secret" not in (tmp_path / "log").read_text()


def test_the_trace_follows_from_the_prompt():
    assert tracing.trace_of("a") == tracing.trace_of("a") != tracing.trace_of("b")
    assert tracing.trace_of(None) != tracing.trace_of(None)
    span = tracing.Span("encode", "7", "a")
    assert span.traceparent == f"00-{tracing.trace_of('a')}-{span.span_id}-01"


def test_an_error_is_in_the_nodes_span_without_its_text(monkeypatch):
    with Collector() as collector:
        monkeypatch.setenv(tracing.TRACES_ENDPOINT, f"{collector.url}/exact")
        monkeypatch.setenv(tracing.ENDPOINT, "http://127.0.0.1:1")
        with pytest.raises(ValueError), tracing.job_span("encode", "7", None):
            raise ValueError("a prompt")
        wait_until(lambda: collector.spans)
    (span,) = collector.spans
    assert collector.requests == ["/exact"]
    assert (span.status, span.message) == (2, "ValueError")
    assert "comfyui.prompt_id" not in span.attributes


def test_spans_beyond_the_bound_are_dropped(monkeypatch):
    monkeypatch.setattr(tracing.threading.Thread, "start", lambda self: None)
    exporter = tracing.Exporter("http://127.0.0.1:1")
    for _ in range(tracing.MAX_WAITING + 5):
        exporter.put({})
    assert exporter._waiting.qsize() == tracing.MAX_WAITING
