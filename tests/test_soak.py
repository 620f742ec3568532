"""The parts of the soak tests, and a small chaos run."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfy_node import wire
from soak import chaos, studio
from soak.beside import PREVIEW_STEPS, waits
from soak.images import STAGES, empty
from soak.measure import growth, quantile, resident_bytes, slope
from soak.proxy import Faults, Proxy
from soak.report import Report, replaced, shown
from soak.supervisor import Ledger, Supervisor, files_in
from soak.wire_client import WireClient
from worker_binary import binary, free_port

DATA = bytes(range(256)) * 4096
"""A mebibyte, in which no two neighbours are equal."""


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it receives."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(one: socket.socket) -> None:
            with one:
                try:
                    while data := one.recv(1 << 16):
                        one.sendall(data)
                except OSError:
                    pass

        def accept() -> None:
            while True:
                try:
                    one, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(one,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


def through(proxy: Proxy, data: bytes, seconds: float) -> tuple[bytes, bool, float]:
    """Sends data again and again; returns what came back, whether it ended, and the longest gap."""
    came, has_ended, longest = bytearray(), False, 0.0
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as one:
        end = last = time.monotonic()
        end += seconds
        while time.monotonic() < end and not has_ended:
            try:
                one.sendall(data)
                received = 0
                while received < len(data):
                    part = one.recv(1 << 16)
                    if not part:
                        has_ended = True
                        break
                    now = time.monotonic()
                    longest, last = max(longest, now - last), now
                    came += part
                    received += len(part)
            except OSError:
                has_ended = True
    return bytes(came), has_ended, longest


def only(kind: str, **values: float) -> Faults:
    return Faults(mean_seconds=0.05, weights={kind: 1}, **values)


def test_a_proxy_without_faults_changes_nothing(echo: int) -> None:
    with Proxy(echo, 1, Faults(mean_seconds=0)) as proxy:
        came, has_ended, _ = through(proxy, DATA, 0.2)
    assert not has_ended
    assert came == DATA * (len(came) // len(DATA)) != b""
    assert proxy.counts == {"connections": 1}


@pytest.mark.parametrize("kind", ["cut", "truncate"])
def test_a_proxy_ends_connections(echo: int, kind: str) -> None:
    with Proxy(echo, 1, only(kind)) as proxy:
        came, has_ended, _ = through(proxy, DATA, 20)
    assert has_ended and proxy.counts[kind] == 1
    # What had come before is right: bytes may be missing at the end, but none in between.
    assert came == (DATA * (len(came) // len(DATA) + 1))[: len(came)]


def test_a_proxy_stalls_and_loses_nothing(echo: int) -> None:
    with Proxy(echo, 3, only("stall", typical_stall=0.3, longest_stall=0.5)) as proxy:
        came, has_ended, longest = through(proxy, DATA[:1000], 2)
    assert not has_ended and proxy.counts["stall"] > 0
    assert came == DATA[:1000] * (len(came) // 1000)
    assert proxy.longest_stall / 2 < longest and proxy.longest_stall <= 0.5


def test_a_proxy_delays_and_loses_nothing(echo: int) -> None:
    with Proxy(echo, 1, only("delay", longest_delay=0.1)) as proxy:
        came, has_ended, longest = through(proxy, DATA[:1000], 1)
    assert not has_ended and proxy.counts["delay"] > 0 and longest > 0.01
    assert came == DATA[:1000] * (len(came) // 1000)


def test_a_calm_proxy_begins_no_fault(echo: int) -> None:
    with Proxy(echo, 1, only("cut")) as proxy:
        proxy.calm()
        _, has_ended, _ = through(proxy, DATA, 0.5)
    assert not has_ended and proxy.counts["cut"] == 0


def test_a_supervisor_restarts_the_worker_and_adds_its_counters(tiny: Path, tmp_path: Path) -> None:
    arguments = ["--model", tiny / "diffusers", "--device", "cpu"]
    encoded = 'ovis_jobs_total{operation="encode",outcome="done"}'
    with Supervisor(binary(), tmp_path, free_port(), *arguments) as worker:

        def encode(prompt: str) -> None:
            async def run() -> None:
                async with WireClient(worker.url, "test") as client:
                    await client.run(wire.EncodeRequest([prompt], 32))

            asyncio.run(run())

        encode("a fox")
        first = worker.pid
        worker.kill()
        worker.wait_until_ready()
        assert worker.pid != first and (worker.kills, worker.deaths) == (1, [])
        encode("a lamp")
        assert worker.metrics()[encoded] == 1 and worker.total(encoded) == 2
        # A process that ends by itself is restarted too, and is not mistaken for a kill.
        os.kill(worker.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while worker.starts < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (worker.kills, worker.deaths) == (1, [-signal.SIGKILL])
        worker.wait_until_ready()
        assert worker.stop() == 0
        jobs = worker.ledger().values()
        assert [(job.operation, len(job.started), len(job.done)) for job in jobs] == [
            ("encode", 1, 1)
        ] * 2


def test_a_report_fails_if_one_figure_does(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- figures of x -->\nold\n<!-- end of x -->\nb\n")
    report = Report("x", "Title", is_full=True)
    report.note("only noted", "text")
    assert not report.has_passed, "nothing was checked"
    report.at_most("most", 2.0, 2)
    report.at_least("least", 3, 3)
    report.equal("equal", "a", "a")
    assert report.has_passed
    report.write(tmp_path / "results", readme)
    text = readme.read_text()
    assert text.startswith("a\n") and text.endswith("b\n") and "old" not in text
    assert "| most | 2 | ≤ 2 | passed |" in text
    assert json.loads((tmp_path / "results" / "x.json").read_text())["passed"] is True
    short = Report("x", "Title", is_full=False)
    short.at_most("no number", float("nan"), 1)
    short.write(tmp_path / "results", readme)
    assert not short.has_passed and readme.read_text() == text
    assert json.loads((tmp_path / "results" / "x-short.json").read_text())["passed"] is False


@pytest.mark.parametrize("over", ["at_most", "at_least", "equal"])
def test_a_figure_beyond_its_limit_fails(over: str) -> None:
    report = Report("x", "Title", is_full=False)
    getattr(report, over)("figure", 4 if over == "at_most" else 2, 3)
    assert not report.has_passed and "**failed**" in report.table()


def test_each_run_has_its_place_in_the_readme() -> None:
    from soak.__main__ import RUNS
    from soak.report import README

    for name in RUNS:
        assert f"<!-- figures of {name} -->\nfigures\n" in replaced(
            README.read_text(), name, "figures"
        )


def test_statistics() -> None:
    seconds, flat, rising = [0, 1, 2, 3], [5, 5, 5, 5], [100, 101, 102, 103]
    assert slope(seconds, flat) == growth(seconds, flat) == 0
    assert growth(seconds, rising) == pytest.approx(3 / 101.5)
    assert [quantile(range(1, 101), share) for share in (0.5, 0.99, 1)] == [50, 99, 100]
    shown_values = [shown(value) for value in (1234, 145408.0, 0.12345, True, float("nan"))]
    assert shown_values == ["1,234", "145,408", "0.1235", "True", "nan"]
    assert 1 << 20 < resident_bytes(os.getpid()) < 1 << 40


def test_steps_that_a_preview_waits_for() -> None:
    large, small = b"large", b"small"
    step = (large, wire.Progress(large, 1, 50, 0.5, 1))
    own = (small, wire.Progress(small, 1, PREVIEW_STEPS, 0.5, 1))
    queued = (small, wire.Queued(small, 0))
    started = (small, wire.Started(small))
    events = [step, step, queued, step, started, own, own, step, step, own, step, own, step]
    assert waits(events, large, small) == [1, 0, 2, 1]


@pytest.fixture
def outcome(tmp_path: Path):
    """A run of one client and one image that went well, and the figures that fail for it."""
    names = {stage: f"000.{stage}" for stage in STAGES}
    client = studio.folder_of(tmp_path / "clients", 0)
    client.mkdir(parents=True)
    for name in names.values():
        studio.write_result(client / name, [empty(64, 64)])
    calm = chaos.Calm(studio.digests(tmp_path / "clients", [0], 1), 1.0, 1, 1)
    notes, ledger = [], {}
    for number, name in enumerate(names.values()):
        ledger[f"job {number}"] = Ledger("any", started=[10.0], done=[11.0])
        notes.append({"at": 10.0, "event": "seen", "job": f"job {number}", "file": name})
        notes.append({"at": 12.0, "event": "arrived", "file": name})

    def failures() -> list[str]:
        lines = "".join(json.dumps(note) + "\n" for note in notes)
        (client / studio.JOURNAL).write_text(lines)
        report = Report("chaos", "Title", is_full=False)
        given = argparse.Namespace(clients=1, images=1)
        chaos.report_outcome(given, tmp_path, calm, ledger, report)
        return [figure.name for figure in report.figures if figure.passed is False]

    return argparse.Namespace(client=client, notes=notes, ledger=ledger, failures=failures)


def test_a_good_run_has_no_failures(outcome) -> None:
    assert outcome.failures() == []
    # A worker that was killed before the result arrived begins the job again, rightly.
    outcome.ledger["job 1"].started.append(11.5)
    assert outcome.failures() == []


def test_a_lost_result_is_noticed(outcome) -> None:
    (outcome.client / "000.decode").unlink()
    assert outcome.failures() == ["images", "jobs (encode, denoise, decode)"]


def test_a_wrong_bit_is_noticed(outcome) -> None:
    path = outcome.client / "000.denoise"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert outcome.failures() == ["results that differ from the run without faults"]


def test_a_doubled_job_is_noticed(outcome) -> None:
    outcome.ledger["job 2"].started.append(12.5)
    assert outcome.failures() == ["jobs begun again after their result had arrived"]


def test_a_job_under_two_ids_is_noticed(outcome) -> None:
    outcome.notes.insert(0, {"at": 9.0, "event": "seen", "job": "other", "file": "000.encode"})
    assert outcome.failures() == ["results that came under more than one job id"]


def test_a_failed_image_is_noticed(outcome) -> None:
    outcome.notes.append({"at": 9.0, "event": "failed", "image": 0, "why": "no room"})
    assert outcome.failures() == ["images that failed"]


def test_a_small_chaos_run(tiny: Path, tmp_path: Path) -> None:
    given = argparse.Namespace(
        model=tiny / "diffusers", clients=4, images=2, kills=2, restarts=1, fault_seconds=2.0,
        longest_stall=2.0, keep_seconds=15.0, seed=5,
    )  # fmt: skip
    report = Report("chaos", chaos.TITLE, is_full=False)
    chaos.run(given, binary(), tmp_path, report)
    assert report.has_passed, report.table()
    assert not [path for path in files_in(tmp_path) if path.suffix == ".part"]
