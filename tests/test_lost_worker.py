"""Lost workers and connections: which jobs are taken over, sent again, wait, or fail.

A job outlives its connection. A job during which workers die again and again may be the cause, and
is sent again twice at most, unless it comes further each time.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from comfy_node import wire
from comfy_node.settings.config import DEFAULT_PATIENCE, WorkerConfig
from comfy_node.texts import WorkerError
from comfy_node.worker import connection, handshake, persistence
from comfy_node.worker import process as worker_process
from comfy_node.worker.client import WorkerClient
from comfy_node.worker.errors import ConnectionLost, NoWorker
from comfy_node.worker.job import Notice
from comfy_node.worker.process import WorkerProcess
from fake_worker import FakeWorker
from test_client import TIMEOUT, binary, denoise, free_port, latent, quick, wait_until

FIXTURES = (binary, quick)  # pytest finds them by name
NOT_SENT_AGAIN = "exited while it ran this job. The job was not sent again"
SHELL = pytest.mark.skipif(os.name == "nt", reason="the stand-in binary is a shell script")
pytestmark = pytest.mark.usefixtures("quick")


def started(events: list) -> bool:
    return any(isinstance(event, wire.Started) for event in events)


def noticed(events: list) -> bool:
    return any(isinstance(event, Notice) for event in events)


def running(
    fake: FakeWorker, steps: int = 2, patience: float = DEFAULT_PATIENCE
) -> tuple[WorkerClient, object, list]:
    """A client, a job that is running on the device, and its events."""
    client, events = WorkerClient(WorkerConfig(url=fake.url, patience=patience)), []
    job = client.submit(denoise(steps), [latent()], events.append)
    wait_until(lambda: started(events))
    return client, job, events


def test_a_running_job_whose_worker_dies_goes_on_at_the_next_one():
    with FakeWorker(step_seconds=10) as first:
        client, job, events = running(first)
    wait_until(lambda: noticed(events))
    with FakeWorker(port=first.port) as second:
        assert job.result(TIMEOUT)
        assert [claim.job for claim in second.claims] == [first.submitted[0].job]
        assert [submit.job for submit in second.submitted] == [first.submitted[0].job]
        client.close()


def test_a_job_that_ends_its_worker_again_and_again_is_sent_three_times():
    # It promises to be durable, so that no states are sent here.
    with FakeWorker(dies_at=[1] * 9, is_durable=True) as fake:
        client = WorkerClient(WorkerConfig(url=fake.url))
        with pytest.raises(WorkerError, match=NOT_SENT_AGAIN) as caught:
            client.submit(denoise(2), [latent()]).result(TIMEOUT)
        assert "Queue the workflow again" in caught.value.hint
        assert len(fake.submitted) == 1 + persistence.MAX_DEATHS == 3
        fake.dies_at = []
        assert client.submit(denoise(2), [latent()]).result(TIMEOUT), "queued again, it runs"
        client.close()


def test_a_job_that_comes_further_each_time_is_sent_again():
    with FakeWorker(dies_at=[1, 2, 3, 4, 5, 6]) as fake:
        client = WorkerClient(WorkerConfig(url=fake.url))
        assert client.submit(denoise(7), [latent()]).result(TIMEOUT)
        assert fake.begun_at == [0, 1, 2, 3, 4, 5, 6], "it goes on from the newest state"
        client.close()


def test_a_job_that_never_had_the_device_outlives_many_workers():
    events: list = []
    with FakeWorker(busy=True) as first:
        client = WorkerClient(WorkerConfig(url=first.url))
        job = client.submit(denoise(1), [latent()], events.append)
        wait_until(lambda: first.received)
    for _ in range(persistence.MAX_DEATHS + 1):
        with FakeWorker(port=first.port, busy=True) as next_one:
            wait_until(lambda fake=next_one: fake.received)
    assert not started(events)
    with FakeWorker(port=first.port) as last:
        assert job.result(TIMEOUT)
        assert len(last.submitted) == 1
        client.close()


def test_a_running_job_whose_network_drops_is_claimed():
    with FakeWorker(step_seconds=0.05) as fake:
        client, job, events = running(fake, steps=20)
        wait_until(lambda: any(isinstance(event, wire.Progress) for event in events))
        fake.cut()
        assert job.result(TIMEOUT)
        (notice,) = (event for event in events if isinstance(event, Notice))
        assert notice.message == (
            f"The connection to the worker at 127.0.0.1:{fake.port} was lost. The job goes on "
            "there; trying to reconnect for up to 10 minutes."
        )
        steps = [event.step for event in events if isinstance(event, wire.Progress)]
        assert steps == sorted(steps) and steps[-1] == 20
        assert fake.begun_at == [0] and len(fake.submitted) == 1 and fake.connections == 2
        client.close()


def test_two_cuts_in_one_job_cost_nothing():
    with FakeWorker(step_seconds=0.05) as fake:
        client, job, events = running(fake, steps=20)
        for cuts in (1, 2):
            wait_until(lambda: any(isinstance(event, wire.Progress) for event in events))
            fake.cut()
            wait_until(lambda cuts=cuts: len(fake.claims) == cuts)
            events.clear()
        assert job.result(TIMEOUT)
        assert fake.begun_at == [0] and fake.connections == 3
        client.close()


def test_a_durable_worker_that_restarts_goes_on_with_its_jobs():
    with FakeWorker(step_seconds=0.1, is_durable=True) as first:
        client, job, events = running(first, steps=10)
        wait_until(lambda: any(isinstance(event, wire.Progress) for event in events))
    with FakeWorker(port=first.port, is_durable=True, jobs=first.jobs) as second:
        assert job.result(TIMEOUT)
        assert len(second.claims) == 1 and second.submitted == []
        assert second.begun_at[0] > 0
        assert first.submitted[0].options.state is None, "it keeps its states itself"
        client.close()


def test_a_durable_worker_that_announces_its_end_keeps_its_jobs():
    with FakeWorker(step_seconds=0.1, is_durable=True) as first:
        client, job, events = running(first, steps=10)
        first.shut_down()
        wait_until(lambda: noticed(events))
    with FakeWorker(port=first.port, is_durable=True, jobs=first.jobs):
        assert job.result(TIMEOUT)
        client.close()


def test_a_running_job_whose_worker_says_that_it_stops_is_sent_to_the_next_one():
    with FakeWorker(step_seconds=10) as first:
        client, job, events = running(first)
        first.shut_down()
        wait_until(lambda: noticed(events))
        assert "is shutting down" in events[-1].message and not job.done()
    with FakeWorker(port=first.port) as second:
        assert job.result(TIMEOUT)
        assert len(second.submitted) == 1
        client.close()


def test_a_worker_that_says_no_uptime_counts_as_one_that_died(monkeypatch):
    async def silent(_: object) -> None:
        return None

    monkeypatch.setattr(connection.Connection, "uptime", silent)
    with FakeWorker(step_seconds=0.05) as fake:
        client, job, events = running(fake, steps=200)
        for _ in range(persistence.MAX_DEATHS + 1):
            wait_until(lambda: started(events))
            fake.forget()
            events.clear()
            fake.cut()
        with pytest.raises(WorkerError, match=NOT_SENT_AGAIN):
            job.result(TIMEOUT)
        client.close()


def test_a_missed_heartbeat_is_a_lost_connection_and_no_bad_message(monkeypatch):
    monkeypatch.setattr(handshake, "HEARTBEAT_SECONDS", 0.2)
    with FakeWorker(step_seconds=0.3) as fake:
        client, job, events = running(fake, steps=6)
        # In a network that drops packets, neither a pong nor the end of the connection arrives.
        session = fake.sessions[0]
        fake._loop.call_soon_threadsafe(session.socket._req.transport.pause_reading)
        wait_until(lambda: noticed(events))
        assert job.result(TIMEOUT)
        assert not any("an invalid message" in getattr(e, "message", "") for e in events)
        client.close()


def test_a_new_job_waits_for_a_worker_that_restarts():
    with FakeWorker() as first:
        client = WorkerClient(WorkerConfig(url=first.url))
        assert client.submit(denoise(1), [latent()]).result(TIMEOUT)
    events: list = []
    job = client.submit(denoise(1), [latent()], events.append)
    wait_until(lambda: noticed(events))
    assert not job.done()
    with FakeWorker(port=first.port):
        assert job.result(TIMEOUT)
        client.close()


def test_one_that_accepts_and_keeps_silent_is_waited_for(monkeypatch):
    monkeypatch.setattr(handshake, "UPGRADE_SECONDS", 0.1)
    monkeypatch.setattr(handshake, "CONNECT_SECONDS", 0.1)
    with FakeWorker() as first:
        client = WorkerClient(WorkerConfig(url=first.url))
        assert client.submit(denoise(1), [latent()]).result(TIMEOUT)
        first.drops = True
        first.cut()
        job = client.submit(denoise(1), [latent()])
        time.sleep(0.5)
        assert not job.done()
        first.drops = False
        assert job.result(TIMEOUT)
        client.close()


def test_one_that_was_never_there_is_not_waited_for():
    client = WorkerClient(WorkerConfig(url=f"127.0.0.1:{free_port()}"))
    begun = time.monotonic()
    with pytest.raises(NoWorker, match="No ovis-worker answers"):
        client.submit(denoise(1), [latent()]).result(TIMEOUT)
    assert time.monotonic() - begun < 5
    client.close()


@pytest.mark.parametrize("has_started", [True, False])
def test_a_worker_that_stays_away_ends_the_wait_with_a_sentence(has_started):
    with FakeWorker(step_seconds=10) as worker:
        client, first, _ = running(worker, patience=0.3)
        second = client.submit(denoise(1), [latent()])
        wait_until(lambda: len(worker.received) == 2)
    with pytest.raises(NoWorker, match="Still unreachable after 0 seconds"):
        (first if has_started else second).result(TIMEOUT)
    client.close()


def test_a_worker_that_refuses_for_ever_because_it_stops_is_given_up(monkeypatch):
    refusal = wire.WireError(wire.ErrorCode.SHUTTING_DOWN, "It stops.", "")

    async def refuse(*_: object) -> None:
        raise ConnectionLost(refusal.message, announced=True)

    monkeypatch.setattr(connection.Connection, "run", refuse)
    with FakeWorker() as fake:
        client = WorkerClient(WorkerConfig(url=fake.url, patience=0.3))
        with pytest.raises(ConnectionLost, match="It stops"):
            client.submit(denoise(1), [latent()]).result(TIMEOUT)
        client.close()


@SHELL
def test_a_started_worker_that_is_killed_is_started_again_for_its_job(binary, tmp_path):
    url, log = f"ws://127.0.0.1:{free_port()}/ws", tmp_path / "worker.log"
    client = WorkerClient(WorkerConfig(url=url, binary=binary, log=str(log)))
    events: list = []
    job = client.submit(denoise(100), [latent()], events.append)
    wait_until(lambda: any(isinstance(event, wire.Progress) for event in events))
    lost = client._link.process
    log.write_text("Why it ended.")
    os.kill(lost._process.pid, signal.SIGKILL)
    try:
        assert job.result(TIMEOUT)
        assert client._link.process is not lost
        assert (tmp_path / "worker.before.log").read_text() == "Why it ended."
    finally:
        client._link.process._process.terminate()
        client.close()


@SHELL
def test_a_worker_that_an_earlier_comfyui_started_is_started_again_too(binary, tmp_path):
    url, log = f"ws://127.0.0.1:{free_port()}/ws", tmp_path / "worker.log"
    config = WorkerConfig(url=url, binary=binary, log=str(log))
    starter = WorkerClient(config)
    starter.connect().result(TIMEOUT)
    process = starter._link.process._process
    starter.close()
    worker_process._children.clear()
    client, events = WorkerClient(config), []
    job = client.submit(denoise(100), [latent()], events.append)
    wait_until(lambda: started(events))
    process.kill()
    process.wait()
    try:
        assert job.result(TIMEOUT)
    finally:
        client._link.process._process.terminate()
        client.close()


@SHELL
def test_each_worker_has_its_own_token_and_none_of_the_environments(binary, tmp_path, monkeypatch):
    shown = tmp_path / "environment"
    script = tmp_path / "shows"
    script.write_text(f'#!/bin/sh\nenv > "{shown}"\n')
    script.chmod(0o755)
    for name in ("OVIS_WORKER_TOKEN", "OVIS_WORKER_URL", "OVIS_WORKER_BIN", "OVIS_WORKER_MODEL"):
        monkeypatch.setenv(name, "of-local")
    for token in (None, "", "own"):
        config = WorkerConfig("second", binary=str(script), token=token, log=str(tmp_path / "l"))
        process = WorkerProcess(config)
        process._process.wait(TIMEOUT)
        said = shown.read_text()
        assert "of-local" not in said
        assert ("OVIS_WORKER_TOKEN=own" in said) == (token == "own")
