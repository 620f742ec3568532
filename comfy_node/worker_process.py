"""Starts a worker that outlives the process that started it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

from .errors import NoWorker, WorkerError
from .settings import WorkerConfig
from .texts import say

_LOG_TAIL_BYTES = 2000

_children: dict[str, subprocess.Popen] = {}
"""What this process has started, by address."""


def how_to_start(config: WorkerConfig) -> str:
    """The hint that ends every "no worker answers"."""
    if not config.is_on_this_machine:
        return say(
            "Start it there: ovis-worker serve --model PATH --listen {address}",
            address=config.address,
        )
    return say(
        "Start one: ovis-worker serve --model PATH --listen {address}\n"
        "Or set OVIS_WORKER_BIN to the binary (`cargo build --release` in this node pack's folder "
        "makes target/release/ovis-worker) and OVIS_WORKER_MODEL to the weights, restart "
        "ComfyUI, and it is started for you.",
        address=config.address,
    )


class WorkerProcess:
    """A started worker: detached, with its output in a log file."""

    def __init__(self, config: WorkerConfig) -> None:
        """Starts the binary of ``config``; raises :class:`NoWorker` when it does not start."""
        self.has_answered = False
        """Whether it was ready once, so that its end is no failed start."""
        self.log = _log_of(config)
        self.command = [config.binary or "", "serve", "--listen", config.address]
        if config.model:
            self.command += ["--model", config.model]
        self.command += config.args
        environ = dict(os.environ)
        if config.token:
            # Not on the command line, where every user of the machine can read it.
            environ["OVIS_WORKER_TOKEN"] = config.token
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            # Why the one before this ended may stand in its log.
            with contextlib.suppress(OSError):
                os.replace(self.log, self.log.with_suffix(".before.log"))
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environ,
                    **_detached(),
                )
        except OSError as error:
            raise NoWorker(
                say(
                    "The worker binary {path} could not be started: {why}.",
                    path=config.binary,
                    why=error,
                ),
                how_to_start(config),
            ) from error
        _children[config.address] = self._process
        note = {"pid": self._process.pid, "address": config.address}
        _note_of(config).write_text(json.dumps(note), encoding="utf-8")

    @property
    def exit_code(self) -> int | None:
        """The exit status, or ``None`` while it runs."""
        return self._process.poll()

    def log_tail(self) -> str:
        """The end of what it wrote."""
        try:
            return self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
        except OSError:
            return ""


def may_stop(config: WorkerConfig) -> bool:
    """Whether the pack started the worker, now or before ComfyUI's last restart."""
    return config.is_on_this_machine and (_child(config) or _noted_pid(config)) is not None


def stop(config: WorkerConfig) -> None:
    """Asks a worker that the pack started to finish its step and end."""
    child, pid = _child(config), _noted_pid(config)
    if child is not None:
        child.terminate()
    elif pid is not None:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, signal.SIGTERM)
    else:
        raise WorkerError(
            say("The worker at {address} was not started from here.", address=config.address),
            say("End it where it was started."),
        )


def _child(config: WorkerConfig) -> subprocess.Popen | None:
    child = _children.get(config.address)
    return child if child is not None and child.poll() is None else None


def _noted_pid(config: WorkerConfig) -> int | None:
    """The process an earlier ComfyUI started, if that number is still the same program's."""
    try:
        note = json.loads(_note_of(config).read_text(encoding="utf-8"))
        pid = int(note["pid"])
        if note["address"] != config.address:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    words = _command_line(pid)
    return pid if "serve" in words and config.address in words else None


def _command_line(pid: int) -> list[str]:
    """The words that started a running process; none where that cannot be known."""
    try:
        if os.path.isdir("/proc/self"):
            return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
        if os.name == "nt":
            return []
        command = ["ps", "-ww", "-p", str(pid), "-o", "args="]
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


def _log_of(config: WorkerConfig) -> Path:
    return Path(config.log or Path(tempfile.gettempdir()) / "ovis_worker.log")


def _note_of(config: WorkerConfig) -> Path:
    return _log_of(config).with_suffix(".pid")


def _detached() -> dict:
    """Popen's options that keep a Ctrl-C or a closed terminal away from the worker."""
    if os.name == "nt":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
        return {"creationflags": flags}
    return {"start_new_session": True}
