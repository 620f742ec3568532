"""Jobs on a real worker: the node pack's client and the worker's binary."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
import torch

from comfy_node import wire
from comfy_node.texts import WorkerError
from comfy_node.wire import WireTensor
from comfy_node.worker.client import WorkerClient
from comfy_node.worker.errors import ConnectionLost
from comfy_node.worker.job import JobEvent, JobResult
from real_worker import RealWorker, from_wire, to_wire
from reference import noise, relative_error

TIMEOUT = 120
LONG_STEPS = 1000
LARGE = 64  # height and width of a latent whose steps are slow enough to cancel one
SMALL = 4


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def client_of(worker: RealWorker) -> Iterator[WorkerClient]:
    """Another client of the worker."""
    client = WorkerClient(worker.config)
    yield client
    client.close()


def denoise_tensors(size: int) -> list[WireTensor]:
    conditioning = noise(1, 1, 8, 64)
    latent = torch.zeros(1, 16, size, size)
    return [to_wire("positive", conditioning), to_wire("latent", latent)]


class Job:
    """A denoise job and the events that it has reported."""

    def __init__(self, client: WorkerClient, steps: int, size: int = SMALL, seed: int = 0) -> None:
        self.events: list[JobEvent] = []
        request = wire.DenoiseRequest(seed, steps, 1.0, "euler", wire.AutoSchedule())
        tensors = denoise_tensors(size)
        self.future: Future[JobResult] = client.submit(request, tensors, self.events.append)

    def latent(self) -> torch.Tensor:
        return from_wire(self.future.result(TIMEOUT).tensors["latent"])

    def of(self, kind: type) -> list:
        return [event for event in list(self.events) if isinstance(event, kind)]

    @property
    def step(self) -> int:
        """The number of steps that it has reported."""
        return len(self.of(wire.Progress))

    @property
    def positions(self) -> list[int]:
        return [event.position for event in self.of(wire.Queued)]

    def failure(self) -> WorkerError:
        with pytest.raises(WorkerError) as caught:
            self.future.result(TIMEOUT)
        return caught.value


@pytest.fixture
def running(worker: RealWorker) -> Iterator[Job]:
    """A job in its first steps that would run for minutes."""
    job = Job(worker.client, LONG_STEPS, LARGE)
    wait_until(lambda: job.step >= 1)
    yield job
    job.future.cancel()
    wait_until(lambda: worker.metric("jobs_running") == 0)


def test_hello_says_what_the_worker_can_do(worker: RealWorker) -> None:
    can = worker.client.connect().result(TIMEOUT).capabilities
    assert can.operations == ["encode", "denoise", "decode", "vae-encode"]
    assert {"euler", "dpmpp_2m", "uni_pc"} < set(can.samplers)
    assert {"flux", "simple", "karras"} < set(can.schedulers)
    assert can.previews == ["linear", "vae"]
    assert (can.model, can.device, can.precision) == ("diffusers", "cpu", "f32")
    assert (can.latent_channels, can.conditioning_width, can.size_multiple) == (16, 64, 16)


def test_every_operation_one_after_the_other(worker: RealWorker) -> None:
    conditioning = worker.encode(["a red fox", ""])
    assert conditioning.shape == (2, 256, 64)
    positive, negative = conditioning.split(1)
    latent = worker.denoise(torch.zeros(2, 16, 6, 10), positive, negative, steps=2, cfg=5.0)
    assert latent.shape == (2, 16, 6, 10)
    image = worker.decode(latent)
    assert image.shape == (2, 48, 80, 3)
    assert 0 <= image.min() < image.max() <= 1
    assert worker.vae_encode(image).shape == latent.shape


def test_progress_of_a_job(worker: RealWorker) -> None:
    sigmas = [1.0, 0.75, 0.5, 0.25, 0.0]
    events: list[JobEvent] = []
    worker.denoise(
        torch.zeros(1, 16, 8, 8),
        noise(1, 1, 8, 64),
        steps=4,
        schedule=wire.SigmasSchedule(sigmas),
        events=events,
    )
    before, progress = events[:-4], events[-4:]
    assert [type(event) for event in before] == [wire.Queued, wire.Started]
    assert [(event.step, event.total) for event in progress] == [(n, 4) for n in (1, 2, 3, 4)]
    assert [event.sigma for event in progress] == sigmas[1:]
    assert all(event.seconds_left > 0 for event in progress[:-1])
    assert progress[-1].seconds_left == 0


@pytest.mark.parametrize("kind, size", [("LINEAR", (12, 8)), ("VAE", (24, 16))])
def test_previews_of_a_job(worker: RealWorker, kind: str, size: tuple[int, int]) -> None:
    events: list[JobEvent] = []
    wanted = wire.PreviewRequest(wire.PreviewKind[kind], 64)
    worker.denoise(
        torch.zeros(1, 16, 8, 12), noise(1, 1, 8, 64), steps=3, preview=wanted, events=events
    )
    previews = [event for event in events if isinstance(event, wire.Preview)]
    assert [preview.step for preview in previews] == [1, 2, 3]
    assert all((preview.width, preview.height) == size for preview in previews)
    pictures = [bytes(preview.data) for preview in previews]
    assert all(len(picture) == 3 * size[0] * size[1] for picture in pictures)
    assert len(set(pictures)) == 3


def test_a_preview_is_no_larger_than_asked_for(worker: RealWorker) -> None:
    events: list[JobEvent] = []
    wanted = wire.PreviewRequest(wire.PreviewKind.LINEAR, 6)
    latent = torch.zeros(1, 16, 8, 12)
    worker.denoise(latent, noise(1, 1, 8, 64), preview=wanted, events=events)
    (preview,) = [event for event in events if isinstance(event, wire.Preview)]
    assert (preview.width, preview.height) == (6, 4)


def test_a_job_whose_window_has_no_step_gives_its_latent_back(worker: RealWorker) -> None:
    latent, events = noise(5, 1, 16, 8, 8), []
    result = worker.denoise(latent, noise(1, 1, 8, 64), steps=4, start_step=4, events=events)
    assert torch.equal(result, latent)
    assert not [event for event in events if isinstance(event, wire.Progress)]


@pytest.mark.parametrize("sampler", ["euler", "dpm_2", "uni_pc", "heun"])
def test_two_halves_make_a_whole(worker: RealWorker, sampler: str) -> None:
    """A pair of KSamplerAdvanced nodes; multistep solvers lose their history between the halves."""
    settings = {"sampler": sampler, "seed": 3, "steps": 6}
    settings |= {"schedule": wire.NamedSchedule("simple"), "shift": 3.0}
    positive = noise(1, 1, 8, 64)
    whole = worker.denoise(torch.zeros(1, 16, 8, 8), positive, **settings)
    first = worker.denoise(
        torch.zeros(1, 16, 8, 8), positive, end_step=3, leftover_noise=True, **settings
    )
    second = worker.denoise(first, positive, start_step=3, add_noise=False, **settings)
    assert relative_error(second, whole) <= (0.2 if sampler == "uni_pc" else 1e-4)
    assert relative_error(first, whole) > 0.2


def test_queue_positions_count_down(worker: RealWorker, running: Job) -> None:
    jobs = [Job(worker.client, 1, seed=number) for number in range(3)]
    wait_until(lambda: all(job.positions for job in jobs))
    assert [job.positions for job in jobs] == [[0], [1], [2]]
    running.future.cancel()
    assert all(job.latent().shape == (1, 16, SMALL, SMALL) for job in jobs)
    assert [job.positions for job in jobs] == [[0], [1, 0], [2, 1, 0]]


def test_short_jobs_run_between_the_steps_of_a_long_one(worker: RealWorker, running: Job) -> None:
    with client_of(worker) as other:
        step = running.step
        other.submit(wire.EncodeRequest(["a"], 16)).result(TIMEOUT)
        assert running.step <= step + 2
        assert not running.future.done()


def test_no_step_starts_after_a_cancel(worker: RealWorker, running: Job) -> None:
    cancelled = worker.metric('jobs_total{operation="denoise",outcome="cancelled"}')
    steps, seen = worker.metric("steps_total"), running.step
    wait_until(lambda: running.step > seen)
    running.future.cancel()
    wait_until(lambda: worker.metric("jobs_running") == 0)
    # The step that was awaited, and the one that was running when the cancel arrived.
    assert worker.metric("steps_total") - steps <= 3
    after = worker.metric('jobs_total{operation="denoise",outcome="cancelled"}')
    assert after == cancelled + 1


def test_a_queued_job_is_cancelled_at_once(worker: RealWorker, running: Job) -> None:
    queued = Job(worker.client, 1)
    wait_until(lambda: queued.positions == [0])
    queued.future.cancel()
    wait_until(lambda: worker.metric("jobs_queued") == 0)
    assert not running.future.done()
    assert queued.of(wire.Started) == []


def test_a_vanished_clients_jobs_go_on_until_it_returns(worker: RealWorker, tmp_path) -> None:
    config = dataclasses.replace(worker.config, folder=tmp_path)
    gone = WorkerClient(config)
    lost = Job(gone, LONG_STEPS, LARGE)
    wait_until(lambda: lost.step >= 1)
    gone.close()
    assert isinstance(lost.failure(), ConnectionLost)
    steps = worker.metric("steps_total")
    wait_until(lambda: worker.metric("steps_total") > steps)
    back = WorkerClient(config)
    again = Job(back, LONG_STEPS, LARGE)
    wait_until(lambda: again.step >= 1)
    assert again.of(wire.Progress)[0].step > 1, "it began anew"
    again.future.cancel()
    wait_until(lambda: worker.metric("jobs_running") == 0)
    back.close()


def test_many_clients_at_once(worker: RealWorker) -> None:
    """Each client gets its own results, complete and unmixed."""
    alone = [Job(worker.client, 2, seed=seed).latent() for seed in range(4)]
    problems: list[str] = []

    def use(number: int) -> None:
        with client_of(worker) as client:
            jobs = [Job(client, 2, seed=(number + i) % 4) for i in range(2)]
            large = noise(number, 1, 16, 8, 8)
            image = client.submit(wire.DecodeRequest(), [to_wire("latent", large)])
            for i, job in enumerate(jobs):
                if relative_error(job.latent(), alone[(number + i) % 4]) > 1e-6:
                    problems.append(f"client {number}, job {i}")
            if from_wire(image.result(TIMEOUT).tensors["image"]).shape != (1, 64, 64, 3):
                problems.append(f"client {number}, image")

    threads = [threading.Thread(target=use, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    wait_until(lambda: worker.metric("connections") > 8)
    for thread in threads:
        thread.join(TIMEOUT)
    assert problems == []
    assert not any(thread.is_alive() for thread in threads)


def bad_requests() -> dict[str, tuple[object, dict[str, torch.Tensor], str]]:
    """Requests that fail, by what is wrong with them, with a word of the answer."""

    def denoise(**wrong: object) -> wire.DenoiseRequest:
        values = {"seed": 0, "steps": 2, "cfg": 1.0, "sampler": "euler"}
        values |= {"schedule": wire.AutoSchedule()}
        return wire.DenoiseRequest(**(values | wrong))

    small = torch.zeros(1, 4, 4, 4)
    good = {"positive": noise(1, 1, 8, 64), "latent": torch.zeros(1, 16, 4, 4)}
    both = good | {"negative": good["positive"]}
    rising = wire.SigmasSchedule([0.5, 1.0, 0.0])
    return {
        "steps": (denoise(steps=0), good, "steps is 0"),
        "cfg": (denoise(cfg=101.0), both, "cfg is 101"),
        "sampler": (denoise(sampler="dpm"), good, "`dpm`"),
        "denoise": (denoise(denoise=0.0), good, "denoise is 0"),
        "shift": (denoise(schedule=wire.ShiftSchedule(-1.0)), good, "shift is -1"),
        "sigmas": (denoise(schedule=rising), good, "sigmas"),
        "scheduler": (denoise(schedule=wire.NamedSchedule("even")), good, "`even`"),
        "option": (denoise(options=wire.SamplerOptions(eta=1.0)), good, "no option `eta`"),
        "long schedule": (denoise(denoise=1e-6), good, "2000000 steps"),
        "preview": (denoise(preview=wire.PreviewRequest(wire.PreviewKind.VAE, 0)), good, "preview"),
        "batch index": (denoise(batch_index=[0, 1]), good, "batch_index"),
        "negative": (denoise(cfg=2.0), good, "`negative`"),
        "no latent": (denoise(), {"positive": good["positive"]}, "`latent`"),
        "odd size": (denoise(), good | {"latent": torch.zeros(1, 16, 4, 5)}, "40 x 32"),
        "aspect": (denoise(), good | {"latent": torch.zeros(1, 16, 4, 18)}, "4 to 1"),
        "channels": (denoise(), good | {"latent": small}, "[1, 4, 4, 4]"),
        "width": (denoise(), good | {"positive": torch.zeros(1, 8, 32)}, "[1, 8, 32]"),
        "entries": (denoise(), good | {"positive": torch.zeros(3, 8, 64)}, "[3, 8, 64]"),
        "mask": (denoise(), good | {"noise_mask": torch.zeros(1, 3, 3)}, "mask"),
        "decode channels": (
            wire.DecodeRequest(),
            {"latent": small},
            "[1, 4, 4, 4]",
        ),
        "image size": (wire.VaeEncodeRequest(), {"image": torch.zeros(1, 20, 16, 3)}, "16 x 20"),
        "alpha": (wire.VaeEncodeRequest(), {"image": torch.zeros(1, 16, 16, 4)}, "[1, 16, 16, 4]"),
    }


@pytest.mark.parametrize("name", bad_requests())
def test_a_request_that_cannot_run_is_told_why(worker: RealWorker, name: str) -> None:
    request, tensors, word = bad_requests()[name]
    with pytest.raises(WorkerError) as caught:
        worker.submit(request, **tensors)
    assert caught.value.code is wire.ErrorCode.INVALID_REQUEST
    assert word in caught.value.message
    assert "\n" not in caught.value.message


def test_an_error_in_one_job_leaves_others_alone(worker: RealWorker, running: Job) -> None:
    empty = wire.EncodeRequest(["a"], 0)
    with client_of(worker) as other:
        before = running.step
        for client in (other, worker.client):
            with pytest.raises(WorkerError, match="max_sequence_length is 0"):
                client.submit(empty).result(TIMEOUT)
            with pytest.raises(WorkerError, match="lacks the tensor `latent`"):
                client.submit(wire.DecodeRequest()).result(TIMEOUT)
        wait_until(lambda: running.step > before)
        assert not running.future.done()
        # The connections that sent them still work.
        assert other.submit(wire.EncodeRequest(["a"], 8)).result(TIMEOUT)
    assert worker.encode(["a"], 8).shape == (1, 8, 64)
