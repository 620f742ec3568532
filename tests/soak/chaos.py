"""200 images of 20 clients through a bad network, while worker and clients are killed."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from worker_binary import ROOT, free_port

from . import studio
from .images import STAGES
from .measure import mebibytes, resident_bytes
from .proxy import Faults, Proxy
from .report import Report
from .supervisor import Ledger, Supervisor, files_in

TITLE = "Chaos: images through a bad network, while worker and clients are killed"
SIZES = ("clients", "images", "kills", "restarts", "fault_seconds", "longest_stall", "keep_seconds")
PROCESSES = 2
"""ComfyUI-side processes, among which the clients are divided."""
UNWRITTEN_AT_A_KILL = 2
"""Jobs whose end may not yet be in the state folder when the worker is killed: one that ends and
one that is being written."""
POLL_SECONDS = 0.2
RUN_SECONDS = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--images", type=int, default=10, help="for each client")
    parser.add_argument("--kills", type=int, default=10, help="of the worker")
    parser.add_argument("--restarts", type=int, default=2, help="of each client process")
    parser.add_argument("--fault-seconds", type=float, default=6.0, help="mean time between faults")
    parser.add_argument("--longest-stall", type=float, default=30.0, help="in seconds")
    parser.add_argument("--keep-seconds", type=float, default=120.0, help="of the worker")
    parser.add_argument("--seed", type=int, default=1)


@dataclass
class _Process:
    """One ComfyUI-side process, which is started again after each kill."""

    url: str
    folder: Path
    clients: list[int]
    images: int
    kills: int = 0
    memory: dict[str, int] = field(default_factory=dict)
    """Resident bytes of the last process, before its first job and after its last."""

    def start(self) -> None:
        command = [sys.executable, "-m", "soak.studio", "--url", self.url]
        command += ["--folder", str(self.folder), "--images", str(self.images)]
        command += ["--clients", *map(str, self.clients)]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"studio-{self.clients[0]}.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def restart(self) -> None:
        self._process.kill()
        self._process.wait()
        self.kills += 1
        self.start()

    def wait(self) -> None:
        """Waits until all images of this process are there or have failed."""
        line = self._process.stdout.readline()
        assert line, f"a process of {self.folder} ended; see the logs there"
        self.memory = json.loads(line)

    def end(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run(given: argparse.Namespace, binary: Path, folder: Path, report: Report) -> None:
    calm = _calm(given, binary, folder)
    jobs = given.clients * given.images * len(STAGES)
    assert len(calm.digests) == jobs, f"the reference has {len(calm.digests)} of {jobs} results"
    faults = Faults(mean_seconds=given.fault_seconds, longest_stall=given.longest_stall)
    state = folder / "state"
    arguments = ["--model", given.model, "--device", "cpu"]
    arguments += ["--checkpoint-steps", 1, "--keep-seconds", given.keep_seconds]
    begun = time.monotonic()
    port = free_port()
    with (
        Supervisor(binary, folder / "worker", port, *arguments, state=state) as worker,
        Proxy(port, given.seed, faults) as proxy,
    ):
        idle = resident_bytes(worker.pid)
        processes = _processes(given, proxy.url, folder / "clients")
        try:
            _break(given, worker, processes, folder / "clients", jobs)
            for one in processes:
                one.wait()
            seconds = time.monotonic() - begun
            proxy.calm()
            kept_at_end = worker.metrics()["ovis_unsent_bytes"]
            kept = _wait_until_nothing_is_kept(worker, state, 2 * given.keep_seconds)
            memory = resident_bytes(worker.pid)
        finally:
            for one in processes:
                one.end()
        ledger = worker.ledger()
        done = sum(
            worker.total(f'ovis_jobs_total{{operation="{stage}",outcome="done"}}')
            for stage in STAGES
        )
        report_outcome(given, folder, calm, ledger, report)
        restarts = sum(one.kills for one in processes)
        report.note("seconds with chaos", seconds, "s")
        report.note("seconds without", calm.seconds, "s")
        report.equal("worker killed", worker.kills, given.kills, "times")
        report.equal("worker ended by itself", len(worker.deaths), 0, "times")
        report.equal("client processes killed", restarts, given.restarts * PROCESSES, "times")
        report.note("proxy: connections", proxy.counts["connections"])
        report.note("proxy: connections while the worker was away", proxy.counts["refused"])
        # A short run may be over before each kind of fault has been drawn, and before a kill
        # has met a denoise job.
        at_least_once = report.note if not report.is_full else partial(report.at_least, least=1)
        for kind in faults.weights:
            at_least_once(f"proxy: {kind}", proxy.counts[kind])
        report.note("proxy: longest stall", proxy.longest_stall, "s")
        resumed = sum(one.resumed for one in ledger.values())
        at_least_once("jobs resumed from a written state", resumed)
        most = given.kills * UNWRITTEN_AT_A_KILL + restarts * _at_once(given)
        report.at_most("computations beyond one for each job (/metrics)", done - jobs, most)
        report.note("result bytes kept right after the last image", kept_at_end)
        report.at_most("result bytes kept after --keep-seconds", kept, 0)
        report.at_most("files left in the state folder", len(_job_files(state)), 0)
        report.note("memory of the idle worker", mebibytes(idle), "MiB")
        report.note("memory of the worker after the calm run", mebibytes(calm.worker), "MiB")
        most = _room(calm.worker)
        report.at_most("memory of the worker at the end", mebibytes(memory), most, "MiB")
        report.note("memory of the clients before", mebibytes(_sum(processes, "before")), "MiB")
        report.note("memory of the clients after the calm run", mebibytes(calm.clients), "MiB")
        after = mebibytes(_sum(processes, "after"))
        report.at_most("memory of the clients at the end", after, _room(calm.clients), "MiB")


@dataclass
class Calm:
    """What the run without faults gave."""

    digests: dict[str, str]
    seconds: float
    worker: int
    clients: int


def _calm(given: argparse.Namespace, binary: Path, folder: Path) -> Calm:
    """Computes every image without faults and without a state folder, as the reference."""
    begun = time.monotonic()
    arguments = ["--model", given.model, "--device", "cpu"]
    with Supervisor(binary, folder / "calm-worker", free_port(), *arguments) as worker:
        processes = _processes(given, worker.url, folder / "calm")
        try:
            for one in processes:
                one.wait()
        finally:
            for one in processes:
                one.end()
        found = studio.digests(folder / "calm", list(range(given.clients)), given.images)
        seconds = time.monotonic() - begun
        return Calm(found, seconds, resident_bytes(worker.pid), _sum(processes, "after"))


def _processes(given: argparse.Namespace, url: str, folder: Path) -> list[_Process]:
    clients = list(range(given.clients))
    shares = [clients[number::PROCESSES] for number in range(PROCESSES)]
    processes = [_Process(url, folder, share, given.images) for share in shares if share]
    for one in processes:
        one.start()
    return processes


def _break(
    given: argparse.Namespace,
    worker: Supervisor,
    processes: list[_Process],
    folder: Path,
    jobs: int,
) -> None:
    """Kills the worker and the client processes, spread evenly over the results that arrive."""
    draws = random.Random(f"kills {given.seed}")

    def spread(count: int) -> list[float]:
        return [jobs * (n + draws.uniform(0.2, 0.8)) / count for n in range(count)]

    acts: list[tuple[float, Callable[[], None]]] = [(at, worker.kill) for at in spread(given.kills)]
    for process in processes:
        acts += [(at, process.restart) for at in spread(given.restarts)]
    deadline = time.monotonic() + RUN_SECONDS
    for at, act in sorted(acts, key=lambda one: one[0]):
        while (arrived := _arrived(folder)) < at:
            assert time.monotonic() < deadline, f"{arrived} of {jobs} results after an hour"
            time.sleep(POLL_SECONDS)
        # Not at the moment at which a result has just arrived, but somewhere in a step.
        time.sleep(draws.uniform(0, 1))
        act()


def _arrived(folder: Path) -> int:
    return sum(1 for stage in STAGES for _ in folder.glob(f"client-*/*.{stage}"))


def report_outcome(
    given: argparse.Namespace, folder: Path, calm: Calm, ledger: dict[str, Ledger], report: Report
) -> None:
    """Reports what was lost, wrong or doubled."""
    clients = list(range(given.clients))
    found = studio.digests(folder / "clients", clients, given.images)
    images = given.clients * given.images
    last = STAGES[-1]
    report.equal("images", sum(1 for name in found if name.endswith(last)), images)
    report.equal("jobs (encode, denoise, decode)", len(found), images * len(STAGES))
    wrong = sum(1 for name, digest in found.items() if calm.digests[name] != digest)
    report.at_most("results that differ from the run without faults", wrong, 0)
    notes = {client: studio.journal(folder / "clients", client) for client in clients}
    failed = Counter(
        note["why"] for each in notes.values() for note in each if note["event"] == "failed"
    )
    for why, count in failed.items():
        print(f"failed {count} times: {why}", flush=True)
    report.at_most("images that failed", sum(failed.values()), 0)
    late, unseen, renamed = doubled(notes, ledger)
    report.at_most("jobs begun again after their result had arrived", late, 0)
    report.at_most("results that came under more than one job id", renamed, 0)
    # A job that was done while no client watched it has no event but its end.
    report.at_most("results whose job id was not seen", unseen, images * len(STAGES) // 10)
    again = sum(1 for job in ledger.values() if len(job.done) > 1)
    report.note("jobs that were done more than once", again)


def doubled(notes: dict[int, list[dict]], ledger: dict[str, Ledger]) -> tuple[int, int, int]:
    """How many results were begun again after they had arrived; of how many no job id was seen;
    and how many came under more than one id, which would hide the first.
    """
    late = unseen = renamed = 0
    for each in notes.values():
        ids: dict[str, set[str]] = {}
        for note in each:
            if note["event"] == "seen":
                ids.setdefault(note["file"], set()).add(note["job"])
        for note in each:
            if note["event"] != "arrived":
                continue
            names = ids.get(note["file"], set())
            starts = [at for name in names if name in ledger for at in ledger[name].started]
            late += any(at > note["at"] for at in starts)
            unseen += not starts
            renamed += len(names) > 1
    return late, unseen, renamed


def _at_once(given: argparse.Namespace) -> int:
    """The jobs that one client process has in flight."""
    return -(-given.clients // PROCESSES) * studio.AT_ONCE


def _wait_until_nothing_is_kept(worker: Supervisor, state: Path, seconds: float) -> float:
    """The bytes that are still kept after so many seconds; returns early when there are none.

    An acknowledgement that a cut connection swallowed is not repeated, so that the worker keeps
    such a result until ``--keep-seconds`` have passed.
    """
    deadline = time.monotonic() + seconds
    while True:
        kept = worker.metrics()["ovis_unsent_bytes"]
        if (kept == 0 and not _job_files(state)) or time.monotonic() > deadline:
            return kept
        time.sleep(1)


def _job_files(state: Path) -> list[Path]:
    """Files of jobs; the lock of the folder is none."""
    return [path for path in files_in(state) if path.suffix in (".job", ".state", ".begun", ".end")]


def _sum(processes: list[_Process], when: str) -> int:
    return sum(one.memory[when] for one in processes)


def _room(calm: int) -> float:
    """The most MiB after chaos: a fifth more than without, for what fragmentation adds."""
    return mebibytes(calm) * 1.2
