"""Jobs that outlive connections, byte by byte: uploads, results, states, acknowledgements."""

from __future__ import annotations

import time
import uuid

import pytest

from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.settings.identity import identity
from comfy_node.texts import WorkerError
from comfy_node.worker import connection, debts, handshake
from comfy_node.worker.client import WorkerClient
from comfy_node.worker.job import Notice, StateBuffer
from fake_jobs import STATE_BYTES
from fake_worker import FakeWorker
from silent_proxy import SilentProxy
from test_client import TIMEOUT, client, denoise, latent, quick, wait_until, worker

FIXTURES = (client, quick, worker)  # pytest finds them by name
pytestmark = pytest.mark.usefixtures("quick")

SIDE = 512
LARGE = (1, 16, SIDE, SIDE)
"""The shape of a tensor of 16 chunks."""
CHUNKS = 16


def large() -> wire.WireTensor:
    return latent(16 * SIDE * SIDE, LARGE)


def noticed(events: list) -> bool:
    return any(isinstance(event, Notice) for event in events)


@pytest.fixture(scope="module")
def expected() -> bytes:
    """The result of the large job where nothing is lost."""
    with FakeWorker() as fake:
        client = WorkerClient(WorkerConfig(url=fake.url))
        result = client.submit(denoise(1), [large()]).result(TIMEOUT)
        client.close()
        return bytes(result.tensors["latent"].data)


@pytest.mark.parametrize("cuts", [[1], [5], [CHUNKS - 1], [5, 7]])
def test_an_upload_that_is_cut_is_sent_again(client, worker, expected, cuts):
    worker.cut_uploads = list(cuts)
    result = client.submit(denoise(1), [large()]).result(TIMEOUT)
    assert result.tensors["latent"].data == expected
    assert worker.connections == len(worker.submitted) == len(cuts) + 1
    assert len(worker.begun_at) == 1 and not worker.cut_uploads


@pytest.mark.parametrize("cuts", [[1], [7], [CHUNKS - 1], [3, 4], [1, 1, 1]])
def test_a_result_that_is_cut_goes_on_at_its_byte(client, worker, expected, cuts):
    worker.cut_results = list(cuts)
    result = client.submit(denoise(1), [large()]).result(TIMEOUT)
    assert result.tensors["latent"].data == expected
    assert len(worker.submitted) == len(worker.begun_at) == 1
    received = [sum(cuts[: n + 1]) * wire.MAX_CHUNK_BYTES for n in range(len(cuts))]
    assert [claim.received for claim in worker.claims] == received
    assert worker.sent_chunks == [(0, n * wire.MAX_CHUNK_BYTES) for n in range(CHUNKS)]
    wait_until(lambda: worker.acknowledged == [worker.submitted[0].job])


def test_a_result_that_was_dropped_half_way_is_computed_again(client, worker, expected):
    worker.cut_results, worker.busy, events = [5], True, []
    job = client.submit(denoise(1), [large()], events.append)
    wait_until(lambda: worker.received)
    worker.refuses, worker.busy = True, False
    wait_until(lambda: noticed(events))
    worker.forget()
    worker.refuses = False
    assert job.result(TIMEOUT).tensors["latent"].data == expected
    assert len(worker.submitted) == 2


def test_a_silent_network_is_noticed_and_the_job_taken_over(worker, monkeypatch):
    monkeypatch.setattr(handshake, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(handshake, "UPGRADE_SECONDS", 0.2)
    monkeypatch.setattr(handshake, "CONNECT_SECONDS", 0.2)
    # States would fill the buffers of the silent connection, and the fake worker would wait.
    worker.step_seconds, worker.is_durable = 0.05, True
    proxy, events = SilentProxy(worker.port), []
    client = WorkerClient(WorkerConfig(url=f"ws://127.0.0.1:{proxy.port}/ws"))
    try:
        job = client.submit(denoise(20), [latent()], events.append)
        wait_until(lambda: any(isinstance(event, wire.Progress) for event in events))
        proxy.cut()
        wait_until(lambda: noticed(events))
        assert not job.done()
        wait_until(lambda: worker.steps_done == [20])
        proxy.restore()
        assert job.result(TIMEOUT)
        assert len(worker.submitted) == len(worker.begun_at) == 1
    finally:
        client.close()
        proxy.close()


# States


def test_states_are_asked_for_only_where_they_help(client, worker):
    client.submit(denoise(1), [latent()]).result(TIMEOUT)
    client.submit(wire.DecodeRequest(), [latent()]).result(TIMEOUT)
    states = [submit.options.state for submit in worker.submitted]
    assert states == [wire.StateInterval(0, 15.0), None]


def test_a_worker_of_another_model_gets_the_job_under_another_name_and_no_state():
    with FakeWorker(dies_at=[2]) as fake:
        client, events = WorkerClient(WorkerConfig(url=fake.url)), []
        job = client.submit(denoise(4), [latent()], events.append)
        wait_until(lambda: fake.submitted)
        fake.model = "another model"
        assert job.result(TIMEOUT)
        first, second = fake.submitted
        assert first.job != second.job and fake.begun_at == [0, 0] and fake.claims == []
        client.close()


def test_a_state_that_is_refused_costs_its_steps_and_not_the_job():
    with FakeWorker(dies_at=[3], refuses_states=True) as fake:
        client = WorkerClient(WorkerConfig(url=fake.url))
        assert client.submit(denoise(4), [latent()]).result(TIMEOUT)
        assert fake.begun_at == [0, 0]
        assert ["state" in arrays for arrays in fake.received] == [False, True, False]
        client.close()


def part(step: int, offset: int, data: bytes, size: int = 6) -> wire.State:
    return wire.State(bytes(16), step, size, offset, data)


def test_only_a_complete_state_counts_and_the_newest_one():
    buffer = StateBuffer()
    buffer.push(part(1, 0, b"abc"))
    assert buffer.complete is None and buffer.tensor() is None
    buffer.push(part(1, 3, b"def"))
    assert buffer.complete == b"abcdef"
    buffer.push(part(2, 0, b"xyz"))
    assert buffer.complete == b"abcdef", "the older one, until the newer is complete"
    buffer.push(part(3, 0, b"123"))
    buffer.push(part(2, 3, b"---"))  # of the one that was replaced
    buffer.push(part(3, 3, b"456"))
    assert buffer.complete == b"abcdef"
    buffer.push(part(4, 0, b"123456"))
    assert buffer.tensor().header == wire.TensorHeader("state", wire.DType.U8, [6])


@pytest.mark.parametrize("size", [2, 1 << 40])
def test_a_state_that_lies_about_its_size_is_refused(size):
    with pytest.raises(wire.WireFormatError):
        StateBuffer().push(part(1, 0, b"abc", size))


def test_a_state_is_sent_in_parts():
    assert STATE_BYTES > 2 * wire.MAX_CHUNK_BYTES


# The same work twice


def test_equal_jobs_in_flight_are_computed_once(client, worker):
    worker.busy = True
    events: list[list] = [[], []]
    jobs = [client.submit(denoise(2), [latent()], seen.append) for seen in events]
    wait_until(lambda: worker.received)
    worker.busy = False
    first, second = (job.result(TIMEOUT).tensors["latent"].data for job in jobs)
    assert bytes(first) == bytes(second) and first is not second
    assert len(worker.submitted) == 1
    for seen in events:
        assert [event.step for event in seen if isinstance(event, wire.Progress)] == [1, 2]


def test_who_comes_later_is_told_how_far_the_job_is(client, worker):
    worker.step_seconds, early, late = 0.05, [], []
    first = client.submit(denoise(20), [latent()], early.append)
    wait_until(lambda: any(isinstance(event, wire.Progress) for event in early))
    second = client.submit(denoise(20), [latent()], late.append)
    assert first.result(TIMEOUT) and second.result(TIMEOUT)
    assert isinstance(late[0], wire.Started) and isinstance(late[1], wire.Progress)


def test_cancelling_one_of_two_equal_jobs_leaves_the_other(client, worker):
    jobs = [client.submit(denoise(50), [latent()]) for _ in range(2)]
    wait_until(lambda: worker.received)
    jobs[0].cancel()
    assert jobs[1].result(TIMEOUT)
    assert worker.cancelled == []


def test_cancelling_both_of_two_equal_jobs_cancels_the_work(client, worker):
    jobs = [client.submit(denoise(10_000), [latent()]) for _ in range(2)]
    wait_until(lambda: worker.received)
    for job in jobs:
        job.cancel()
    wait_until(lambda: worker.cancelled == [worker.submitted[0].job])
    wait_until(lambda: worker.acknowledged == worker.cancelled)


def test_a_node_that_cannot_show_an_event_does_not_fail_the_other_node(client, worker):
    def fail(_: object) -> None:
        raise RuntimeError("cannot be shown")

    good = client.submit(denoise(20), [latent()])
    bad = client.submit(denoise(20), [latent()], fail)
    with pytest.raises(WorkerError, match="cannot be shown"):
        bad.result(TIMEOUT)
    assert good.result(TIMEOUT) and len(worker.submitted) == 1


def test_work_that_was_cancelled_can_be_asked_for_again_at_once(client, worker):
    for _ in range(5):
        job = client.submit(denoise(1000), [latent()])
        wait_until(lambda: worker.steps_done and worker.steps_done[-1] > 0)
        job.cancel()
    assert client.submit(denoise(2), [latent()]).result(TIMEOUT)
    again = client.submit(denoise(1000), [latent()])
    wait_until(lambda: worker.steps_done and worker.steps_done[-1] > 0)
    assert not again.done()
    again.cancel()


def test_finished_work_is_done_anew_after_its_acknowledgement(client, worker):
    for times in (1, 2):
        assert client.submit(denoise(1), [latent()]).result(TIMEOUT)
        wait_until(lambda times=times: len(worker.acknowledged) == times)
    assert worker.acknowledged == [submit.job for submit in worker.submitted]
    assert worker.acknowledged[0] == worker.acknowledged[1]


def test_a_name_is_a_uuid_of_version_8_and_depends_on_all_that_decides_the_result(tmp_path):
    names = []
    for folder in (None, tmp_path):
        for model in ("a", "b"):
            with FakeWorker(model=model) as fake:
                client = WorkerClient(WorkerConfig(url=fake.url, folder=folder))
                for steps in (1, 2):
                    for shape in ((1, 16, 4, 4), (1, 16, 2, 8)):
                        job = client.submit(denoise(steps), [latent(shape=shape)])
                        assert job.result(TIMEOUT)
                client.close()
                names += [submit.job for submit in fake.submitted]
    assert len(set(names)) == len(names) == 16
    for name in names:
        found = uuid.UUID(bytes=name)
        assert (found.version, found.variant) == (8, uuid.RFC_4122)


# ComfyUI restarts


@pytest.mark.parametrize("is_done", [False, True])
def test_comfyui_that_was_restarted_joins_the_work_or_gets_the_result(tmp_path, is_done):
    with FakeWorker(step_seconds=0.05) as fake:
        config = WorkerConfig(url=fake.url, folder=tmp_path)
        earlier = WorkerClient(config)
        lost = earlier.submit(denoise(10), [latent()])
        wait_until(lambda: fake.steps_done and fake.steps_done[0] > 0)
        earlier.close()
        with pytest.raises(WorkerError, match="was lost during the job"):
            lost.result(TIMEOUT)
        wait_until(lambda: not fake.sessions)
        if is_done:
            wait_until(lambda: fake.steps_done == [10])
        later = WorkerClient(config)
        assert later.submit(denoise(10), [latent()]).result(TIMEOUT)
        assert fake.begun_at == [0] and fake.cancelled == []
        assert fake.submitted[0].job == fake.submitted[1].job
        assert fake.secrets == 2 * [bytes.fromhex(identity(tmp_path).reveal())]
        wait_until(lambda: fake.jobs == {})
        later.close()


def test_a_job_that_another_comfyui_took_over_is_claimed_back(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "QUIET_SECONDS", 0.3)
    with FakeWorker(busy=True) as fake:
        config = WorkerConfig(url=fake.url, folder=tmp_path)
        one, other = WorkerClient(config), WorkerClient(config)
        jobs = [one.submit(denoise(1), [latent()])]
        wait_until(lambda: fake.received)
        jobs.append(other.submit(denoise(1), [latent()]))
        wait_until(lambda: len(fake.received) == 2)
        fake.busy = False
        results = [job.result(TIMEOUT).tensors["latent"].data for job in jobs]
        assert bytes(results[0]) == bytes(results[1])
        one.close()
        other.close()


# What is over while the connection is down


def test_an_end_that_could_not_be_acknowledged_is_acknowledged_later(client, worker, monkeypatch):
    tell = connection.Connection._tell

    async def cut_first(self: connection.Connection, message: object) -> bool:
        if isinstance(message, wire.Acknowledge) and self.socket is first:
            worker.sessions[0].worker._loop.call_soon_threadsafe(worker.sessions[0].cut)
            return False
        return await tell(self, message)

    client.connect().result(TIMEOUT)
    first = client._link.connection.socket
    monkeypatch.setattr(connection.Connection, "_tell", cut_first)
    assert client.submit(denoise(1), [latent()]).result(TIMEOUT)
    wait_until(lambda: worker.acknowledged == [worker.submitted[0].job])
    assert worker.connections == 2 and worker.jobs == {}


@pytest.mark.parametrize("end", ["fail", "a"])
def test_every_end_is_acknowledged_once(client, worker, end):
    job = client.submit(wire.EncodeRequest([end], 8))
    if end == "fail":
        with pytest.raises(WorkerError):
            job.result(TIMEOUT)
    else:
        job.result(TIMEOUT)
    wait_until(lambda: worker.jobs == {})
    time.sleep(0.1)
    assert worker.acknowledged == [worker.submitted[0].job]


def test_a_job_that_was_interrupted_while_disconnected_is_cancelled_later(client, worker):
    worker.step_seconds, events = 0.05, []
    job = client.submit(denoise(10_000), [latent()], events.append)
    wait_until(lambda: any(isinstance(event, wire.Progress) for event in events))
    worker.refuses = True
    worker.cut()
    wait_until(lambda: noticed(events))
    job.cancel()
    time.sleep(0.2)
    assert worker.cancelled == []
    worker.refuses = False
    wait_until(lambda: worker.cancelled == [worker.submitted[0].job])
    wait_until(lambda: worker.jobs == {})


def test_a_cancellation_is_not_sent_after_more_than_its_patience(client, worker, monkeypatch):
    monkeypatch.setattr(debts, "CANCEL_PATIENCE_SECONDS", 0.1)
    worker.step_seconds, events = 0.05, []
    job = client.submit(denoise(10_000), [latent()], events.append)
    wait_until(lambda: any(isinstance(event, wire.Progress) for event in events))
    worker.refuses = True
    worker.cut()
    wait_until(lambda: noticed(events))
    job.cancel()
    time.sleep(0.3)
    worker.refuses = False
    assert client.connect().result(TIMEOUT)
    time.sleep(0.2)
    assert worker.connections == 2 and worker.cancelled == []


def test_a_job_that_was_never_sent_is_not_cancelled_there(worker):
    with FakeWorker(full=[30.0]) as fake:
        client, events = WorkerClient(WorkerConfig(url=fake.url)), []
        job = client.submit(denoise(1), [latent()], events.append)
        wait_until(lambda: noticed(events))
        job.cancel()
        assert client.submit(denoise(1), [latent()]).result(2)
        assert fake.cancelled == []
        client.close()
