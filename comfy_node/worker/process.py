"""Starts a worker as a process that outlives ComfyUI, and finds it again after a restart.

A PID file beside the worker's log records what was started, so that a later ComfyUI can stop it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..files import read_json, write_atomically
from ..settings.config import ENVIRONMENT, WorkerConfig
from ..texts import WorkerError, printable, say
from .cuda_libraries import with_libraries
from .errors import StartFailed
from .start_hint import how_to_start

_LOG_TAIL_BYTES = 2000
_MAX_RECORD_BYTES = 4096
_ADDRESS_IN_USE = 98
"""A worker's exit status if another program uses its address."""

_children: dict[str, subprocess.Popen] = {}
"""The processes that this process has started, by the path of their PID file."""
_earlier_records: dict[str, bytes] = {}
"""What the PID files contained before those of ``_children`` were written, by path."""
_stopped: dict[str, int] = {}
"""Process ids that were asked to stop, by the path of their PID file."""


@dataclass(frozen=True)
class _PidRecord:
    """The content of a PID file."""

    pid: int
    address: str
    settings: str
    """A hash of the settings that it was started with, see :func:`_settings_of`; may be empty."""


class WorkerProcess:
    """A process of the worker: detached from this one, with its output in a log file."""

    def __init__(self, config: WorkerConfig) -> None:
        """Starts the binary of ``config``; raises :class:`StartFailed` if that fails."""
        self.has_answered = False
        """Whether it has answered once, so that its exit does not count as a failed start."""
        self.log = _log_path(config)
        self.command = [config.binary or "", "serve", "--listen", config.address]
        if config.model:
            self.command += ["--model", config.model]
        self.command += config.args
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Keep the previous log: it may say why the previous worker ended.
            with contextlib.suppress(OSError):
                os.replace(self.log, self.log.with_suffix(".before.log"))
            with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(config),
                    **_detached(),
                )
        except (OSError, ValueError) as error:
            raise StartFailed(
                say(
                    "The worker binary {path} could not be started: {why}.",
                    path=printable(config.binary),
                    why=printable(error),
                ),
                how_to_start(config),
            ) from error
        _restore_record(_record_path(config))
        with contextlib.suppress(OSError):
            _earlier_records[str(_record_path(config))] = _record_path(config).read_bytes()
        _children[str(_record_path(config))] = self._process
        record = {
            "pid": self._process.pid,
            "address": config.address,
            "settings": _settings_of(config),
        }
        # Without the file, only this ComfyUI can stop the worker.
        with contextlib.suppress(OSError):
            write_atomically(_record_path(config), json.dumps(record).encode())

    @property
    def exit_code(self) -> int | None:
        """The exit status, or ``None`` while it runs."""
        return self._process.poll()

    @property
    def found_another(self) -> bool:
        """Whether it exited because another worker or program uses its address."""
        return self.exit_code == _ADDRESS_IN_USE

    def log_tail(self) -> str:
        """The last lines of its log, without control characters."""
        try:
            end = self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return "\n".join(printable(line, _LOG_TAIL_BYTES) for line in end.splitlines())


def may_stop(config: WorkerConfig) -> bool:
    """Whether the pack started this worker, now or before ComfyUI was restarted."""
    return config.is_on_this_machine and _running(config) is not None


def needs_restart(config: WorkerConfig) -> bool:
    """Whether the worker that the pack started runs with other settings than ``config``."""
    record = _read_record(config)
    if record is None or _running(config) is None:
        return False
    has_changed = bool(record.settings) and record.settings != _settings_of(config)
    return has_changed or record.address != config.address


def is_stopping(config: WorkerConfig) -> bool:
    """Whether the worker was asked to stop and has not ended yet."""
    path = str(_record_path(config))
    if path not in _stopped:
        return False
    if _running(config) == _stopped[path]:
        return True
    del _stopped[path]
    return False


def stop(config: WorkerConfig) -> None:
    """Asks a worker that the pack started to finish its step and exit.

    Raises :class:`WorkerError` if the pack has not started it.
    """
    pid = _running(config) if config.is_on_this_machine else None
    if pid is None:
        raise WorkerError(
            say(
                "The worker at {address} was not started by the node pack.", address=config.address
            ),
            say("Stop it where it was started."),
        )
    child = _children.get(str(_record_path(config)))
    _stopped[str(_record_path(config))] = pid
    if child is not None and child.pid == pid:
        child.terminate()
    else:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGTERM)


def _environment(config: WorkerConfig) -> dict[str, str]:
    """The child's environment: with CUDA's libraries, and without the variables that describe the
    worker `local`.

    The token is passed in the environment, because every user of the machine can read command
    lines.
    """
    environ = {name: text for name, text in os.environ.items() if name not in ENVIRONMENT.values()}
    if config.token:
        environ[ENVIRONMENT["token"]] = config.token.reveal()
    return with_libraries(environ)


def _settings_of(config: WorkerConfig) -> str:
    """A hash of the settings that a process is started with; a hash, because of the token."""
    token = config.token.reveal() if config.token else ""
    whole = json.dumps([config.binary, config.model, list(config.args), token])
    return hashlib.sha256(whole.encode()).hexdigest()


def _running(config: WorkerConfig) -> int | None:
    """The id of the process that the pack started for this label, if it still runs."""
    child = _children.get(str(_record_path(config)))
    if child is not None and child.poll() is None:
        return child.pid
    record = _read_record(config)
    if record is None or (child is not None and child.pid == record.pid):
        return None
    # The id may belong to another program by now, so check the command line.
    words = _command_line(record.pid)
    return record.pid if "serve" in words and record.address in words else None


def _restore_record(path: Path) -> None:
    """Restores the previous PID file if the last started process found its address in use.

    The previous process may be the one that uses the address.
    """
    child = _children.get(str(path))
    if child is not None and child.poll() == _ADDRESS_IN_USE:
        before = _earlier_records.pop(str(path), None)
        if before is not None:
            with contextlib.suppress(OSError):
                write_atomically(path, before)


def _read_record(config: WorkerConfig) -> _PidRecord | None:
    _restore_record(_record_path(config))
    try:
        record = read_json(_record_path(config), _MAX_RECORD_BYTES)
        pid = int(record["pid"])
        return (
            _PidRecord(pid, str(record["address"]), str(record.get("settings", "")))
            if pid > 0
            else None
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _command_line(pid: int) -> list[str]:
    """The command line of a running process; empty if it cannot be found out."""
    try:
        return psutil.Process(pid).cmdline()
    except (OSError, ValueError, OverflowError, psutil.Error):
        return []


def _log_path(config: WorkerConfig) -> Path:
    return Path(config.log or Path(tempfile.gettempdir()) / "ovis_worker.log")


def _record_path(config: WorkerConfig) -> Path:
    return _log_path(config).with_suffix(".pid")


def _detached() -> dict:
    """Options for ``Popen`` that keep Ctrl-C and the end of a terminal away from the worker."""
    if os.name == "nt":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
        return {"creationflags": flags}
    return {"start_new_session": True}
