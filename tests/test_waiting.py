"""Jobs that wait for a full worker, and jobs that are interrupted in each of their states."""

from __future__ import annotations

import asyncio
import time

import pytest

from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.texts import WorkerError
from comfy_node.worker import connection
from comfy_node.worker.client import WorkerClient
from comfy_node.worker.errors import NoWorker
from comfy_node.worker.job import Notice
from fake_worker import FakeWorker
from test_claims import large, noticed
from test_client import TIMEOUT, client, denoise, latent, quick, wait_until, worker

FIXTURES = (client, quick, worker)  # pytest finds them by name
pytestmark = pytest.mark.usefixtures("quick")


# A worker that is full


def test_a_full_worker_is_tried_again_when_it_says(client, worker):
    worker.full, events = [0.1, 0.2], []
    assert client.submit(denoise(1), [latent()], events.append).result(TIMEOUT)
    assert len(worker.submitted) == 3
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert notices == 2 * ["The worker is full; trying again in 0 s."]


def test_a_full_worker_that_says_no_time_is_an_error(client, worker):
    worker.full = [None]
    with pytest.raises(WorkerError, match="QUEUE_FULL"):
        client.submit(denoise(1), [latent()]).result(TIMEOUT)
    assert len(worker.submitted) == 1


def test_a_worker_that_stays_full_is_given_up():
    with FakeWorker(full=[0.1] * 1000) as fake:
        client = WorkerClient(WorkerConfig(url=fake.url, patience=0.5))
        begun = time.monotonic()
        with pytest.raises(WorkerError, match="QUEUE_FULL"):
            client.submit(denoise(1), [latent()]).result(TIMEOUT)
        assert time.monotonic() - begun < 1 and 2 < len(fake.submitted) < 10
        client.close()


def test_a_wait_for_a_full_worker_can_be_interrupted(client, worker):
    worker.full, events = [60.0], []
    job = client.submit(denoise(1), [latent()], events.append)
    wait_until(lambda: noticed(events))
    assert "trying again in 6" in events[-1].message
    job.cancel()
    assert client.submit(denoise(2), [latent()]).result(TIMEOUT)


def test_a_refused_hello_is_tried_again_too(client, worker):
    worker.full_hellos, events = [0.1, 0.1], []
    assert client.submit(denoise(1), [latent()], events.append).result(TIMEOUT)
    assert worker.connections == 3 and noticed(events)


@pytest.mark.parametrize("status", [429, 503])
def test_http_answers_that_say_when_to_come_back_are_followed(client, worker, status):
    worker.full_http, events = [(status, "0"), (status, "0")], []
    assert client.submit(denoise(1), [latent()], events.append).result(TIMEOUT)
    assert worker.full_http == [] and noticed(events)


def test_http_answers_without_a_time_are_not_followed(client, worker):
    worker.full_http = [(503, "soon")]
    with pytest.raises(NoWorker, match="503"):
        client.submit(denoise(1), [latent()]).result(TIMEOUT)


# Options


def test_options_go_with_the_job(client, worker):
    options = wire.JobOptions(wire.Priority.HIGH, 100.0, None, "00-ab-cd-01")
    client.submit(wire.EncodeRequest(["a"], 8), options=options).result(TIMEOUT)
    assert worker.submitted[0].options == options


# An interrupt in each state


def test_an_interrupt_while_it_connects_leaves_nothing_behind(worker):
    worker.drops = True
    client = WorkerClient(WorkerConfig(url=worker.url))
    job = client.submit(denoise(1), [latent()])
    time.sleep(0.2)
    job.cancel()
    assert job.cancelled()
    wait_until(lambda: client._jobs == {})
    assert worker.submitted == [] and worker.cancelled == []
    client.close()


@pytest.mark.parametrize("state", ["uploaded", "queued", "running", "sent back"])
def test_an_interrupt_cancels_the_job_wherever_it_is(client, worker, monkeypatch, state):
    events: list = []
    if state == "uploaded":
        # The job waits before its last chunk.
        send = connection.Connection._send

        async def stop_before_the_last(self: connection.Connection, message: object) -> None:
            if isinstance(message, wire.Chunk) and message.offset == 15 * wire.MAX_CHUNK_BYTES:
                events.append(message)
                await asyncio.Event().wait()
            await send(self, message)

        monkeypatch.setattr(connection.Connection, "_send", stop_before_the_last)
    elif state == "queued":
        worker.busy = True
    elif state == "sent back":
        worker.pauses_results = 3
    request = denoise(1) if state == "sent back" else denoise(10_000)
    job = client.submit(request, [large()], events.append)
    reached = {
        "uploaded": lambda: any(isinstance(event, wire.Chunk) for event in events),
        "queued": lambda: any(isinstance(event, wire.Queued) for event in events),
        "running": lambda: any(isinstance(event, wire.Progress) for event in events),
        "sent back": lambda: len(worker.sent_chunks) == 3,
    }
    wait_until(reached[state])
    job.cancel()
    (submit,) = worker.submitted
    if state == "sent back":
        wait_until(lambda: worker.acknowledged == [submit.job])
    else:
        wait_until(lambda: worker.cancelled == [submit.job])
    wait_until(lambda: worker.jobs == {} and client._jobs == {})
    worker.busy = False
    assert client.submit(wire.EncodeRequest(["a"], 8)).result(TIMEOUT), "the connection goes on"
    assert worker.connections == 1
