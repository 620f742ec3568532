"""Runs a worker, restarts it when it dies, and counts what all of its processes computed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

START_SECONDS = 120.0
STOP_SECONDS = 60.0
WATCH_SECONDS = 0.05

Metrics = dict[str, float]


@dataclass
class Ledger:
    """What the logs of all processes say about one job."""

    operation: str = ""
    started: list[float] = field(default_factory=list)
    """When a device took the job, by the system's clock."""
    done: list[float] = field(default_factory=list)
    """When it was done."""
    resumed: int = 0
    """How often it went on from a written state."""


class Supervisor:
    """A worker that is started again whenever it ends without being told to.

    Use it as a context manager. Each process writes a log of its own.
    """

    def __init__(
        self, binary: Path, folder: Path, port: int, *arguments: object, state: Path | None = None
    ) -> None:
        self.port = port
        self.state = state
        """The state folder; without one, jobs end with their process."""
        self.url = f"ws://127.0.0.1:{port}/"
        self._folder = folder
        self._command = [str(binary), "serve", "--listen", f"127.0.0.1:{port}"]
        self._command += ["--log-format", "json", *map(str, arguments)]
        if state is not None:
            self._command += ["--state-dir", str(state)]
        self.starts = 0
        self.kills = 0
        self.deaths: list[int] = []
        """Exit codes of processes that ended without being told or killed."""
        self._counted: list[Metrics] = []
        self._is_stopping = False
        self._changing = threading.Lock()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Supervisor:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._start()
        self._watcher.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The present process."""
        return self._process.pid

    @property
    def logs(self) -> list[Path]:
        """The logs, one for each process."""
        return [self._log(number) for number in range(1, self.starts + 1)]

    def kill(self) -> None:
        """Ends the process with SIGKILL, after its counters were read. The watcher restarts it."""
        with self._changing:
            try:
                self._counted.append(self.metrics())
            except OSError:
                self._counted.append({})  # it was still loading, so it has computed nothing
            self.kills += 1
            self._process.kill()
            self._process.wait()
            self._start()

    def stop(self) -> int:
        """Ends the worker with SIGTERM, and returns its exit code."""
        with self._changing:
            self._is_stopping = True
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
                try:
                    self._process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
        return self._process.returncode

    def wait_until_ready(self) -> None:
        """Returns when the worker answers. Raises :class:`AssertionError` if it ends instead."""
        deadline, deaths = time.monotonic() + START_SECONDS, len(self.deaths)
        while True:
            try:
                self.metrics()
                return
            except OSError as error:
                logs = self.logs[-2:]  # a process that ended has been replaced already
                text = "".join(log.read_text()[-2000:] for log in logs)
                ended = self.deaths[deaths:]
                assert not ended, f"the worker ended with {ended[0]}: {text}"
                assert time.monotonic() < deadline, f"no answer ({error}): {text}"
                time.sleep(WATCH_SECONDS)

    def metrics(self) -> Metrics:
        """The metrics of the present process. Raises :class:`OSError` if it does not answer."""
        address = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def total(self, name: str) -> float:
        """A counter over all processes: each was read just before it was killed."""
        return sum(one.get(name, 0.0) for one in [*self._counted, self.metrics()])

    def ledger(self) -> dict[str, Ledger]:
        """What each job did, by its UUID, from the logs.

        The worker writes its log on a thread of its own, so a kill may cost the lines of the
        last milliseconds.
        """
        jobs: dict[str, Ledger] = {}
        for log in self.logs:
            for line in log.read_text(errors="replace").splitlines():
                _account(jobs, line)
        return jobs

    def _log(self, number: int) -> Path:
        return self._folder / f"worker-{number:02}.log"

    def _start(self) -> None:
        self.starts += 1
        environment = {**os.environ, "OVIS_WORKER_LOG": "info"}
        with self._log(self.starts).open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, env=environment
            )

    def _watch(self) -> None:
        while not self._is_stopping:
            with self._changing:
                code = self._process.poll()
                if code is not None and not self._is_stopping:
                    self.deaths.append(code)
                    self._counted.append({})
                    self._start()
            time.sleep(WATCH_SECONDS)


def _account(jobs: dict[str, Ledger], line: str) -> None:
    try:
        event = json.loads(line)
    except ValueError:
        return  # the end of a process may have cut its last line
    fields = event.get("fields", {})
    message = fields.get("message")
    span = next((span for span in event.get("spans", []) if span.get("name") == "job"), None)
    if span is None or message not in ("started", "done", "goes on from a written state"):
        return
    job = jobs.setdefault(str(span["id"]), Ledger())
    job.operation = str(span.get("operation", ""))
    at = _seconds(event["timestamp"])
    if message == "started":
        job.started.append(at)
    elif message == "done":
        job.done.append(at)
    else:
        job.resumed += 1


def _seconds(timestamp: str) -> float:
    """A time of the log, such as 2026-01-02T03:04:05.678901Z, in seconds since 1970."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def files_in(folder: Path) -> list[Path]:
    """All files in a folder and below it; none if it does not exist."""
    return [path for path in folder.rglob("*") if path.is_file()]
