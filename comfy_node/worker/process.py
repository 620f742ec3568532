"""Starts a worker that outlives the process that started it."""

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

from ..files import read_json, replace
from ..settings.config import ENVIRONMENT, WorkerConfig
from ..texts import WorkerError, say, shown
from .errors import StartFailed
from .start_hint import how_to_start

_LOG_TAIL_BYTES = 2000
_NOTE_BYTES = 4096
_ADDRESS_IN_USE = 98
"""A worker's exit status where another program has its address."""

_children: dict[str, subprocess.Popen] = {}
"""What this process has started, by the path of its note."""
_notes_before: dict[str, bytes] = {}
"""What the notes of those in ``_children`` were before, by their paths."""
_stopped: dict[str, int] = {}
"""Processes that were asked to stop, by the path of their note."""


@dataclass(frozen=True)
class _Note:
    """What is kept of a started worker for a later ComfyUI."""

    pid: int
    address: str
    settings: str
    """What it was started with, as :func:`_settings_of` writes it; empty where unknown."""


class WorkerProcess:
    """A started worker: detached, with its output in a log file."""

    def __init__(self, config: WorkerConfig) -> None:
        """Starts the binary of ``config``; raises :class:`StartFailed` when it does not start."""
        self.has_answered = False
        """Whether it was ready once, so that its end is no failed start."""
        self.log = _log_of(config)
        self.command = [config.binary or "", "serve", "--listen", config.address]
        if config.model:
            self.command += ["--model", config.model]
        self.command += config.args
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Why the one before this ended may stand in its log.
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
                    path=shown(config.binary),
                    why=shown(error),
                ),
                how_to_start(config),
            ) from error
        _give_way(_note_of(config))
        with contextlib.suppress(OSError):
            _notes_before[str(_note_of(config))] = _note_of(config).read_bytes()
        _children[str(_note_of(config))] = self._process
        note = {
            "pid": self._process.pid,
            "address": config.address,
            "settings": _settings_of(config),
        }
        with contextlib.suppress(OSError):  # without it, a later ComfyUI cannot stop the worker
            replace(_note_of(config), json.dumps(note).encode())

    @property
    def exit_code(self) -> int | None:
        """The exit status, or ``None`` while it runs."""
        return self._process.poll()

    @property
    def found_another(self) -> bool:
        """Whether it ended at once because another worker, or program, has its address."""
        return self.exit_code == _ADDRESS_IN_USE

    def log_tail(self) -> str:
        """The end of what it wrote, without what a terminal or a page would obey."""
        try:
            end = self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        return "\n".join(shown(line, _LOG_TAIL_BYTES) for line in end.splitlines())


def may_stop(config: WorkerConfig) -> bool:
    """Whether the pack started the worker, now or before ComfyUI's last restart."""
    return config.is_on_this_machine and _running(config) is not None


def needs_restart(config: WorkerConfig) -> bool:
    """Whether the worker that the pack started still has other settings than these."""
    note = _note(config)
    if note is None or _running(config) is None:
        return False
    other = bool(note.settings) and note.settings != _settings_of(config)
    return other or note.address != config.address


def is_stopping(config: WorkerConfig) -> bool:
    """Whether the worker was asked to stop, and has not ended yet."""
    note = str(_note_of(config))
    if note not in _stopped:
        return False
    if _running(config) == _stopped[note]:
        return True
    del _stopped[note]
    return False


def has_ended(config: WorkerConfig) -> bool:
    """Whether the pack started a worker whose process is gone."""
    return _note(config) is not None and _running(config) is None


def stop(config: WorkerConfig) -> None:
    """Asks a worker that the pack started to finish its step and end."""
    pid = _running(config) if config.is_on_this_machine else None
    if pid is None:
        raise WorkerError(
            say("The worker at {address} was not started from here.", address=config.address),
            say("End it where it was started."),
        )
    child = _children.get(str(_note_of(config)))
    _stopped[str(_note_of(config))] = pid
    if child is not None and child.pid == pid:
        child.terminate()
    else:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, signal.SIGTERM)


def _environment(config: WorkerConfig) -> dict[str, str]:
    """The child's environment: what describes the worker `local` is not every worker's."""
    environ = {name: text for name, text in os.environ.items() if name not in ENVIRONMENT.values()}
    if config.token:
        # Not on the command line, where every user of the machine can read it.
        environ[ENVIRONMENT["token"]] = config.token.reveal()
    return environ


def _settings_of(config: WorkerConfig) -> str:
    """What a process is started with, as a hash: it holds a secret."""
    token = config.token.reveal() if config.token else ""
    whole = json.dumps([config.binary, config.model, list(config.args), token])
    return hashlib.sha256(whole.encode()).hexdigest()


def _running(config: WorkerConfig) -> int | None:
    """The process that the pack started for this label, if it still runs."""
    child = _children.get(str(_note_of(config)))
    if child is not None and child.poll() is None:
        return child.pid
    note = _note(config)
    if note is None or (child is not None and child.pid == note.pid):
        return None
    # The number may be another program's by now.
    words = _command_line(note.pid)
    return note.pid if "serve" in words and note.address in words else None


def _give_way(path: Path) -> None:
    """Puts a note back where the process started last found its address in use.

    The worker before it may be the one that has the address.
    """
    child = _children.get(str(path))
    if child is not None and child.poll() == _ADDRESS_IN_USE:
        before = _notes_before.pop(str(path), None)
        if before is not None:
            with contextlib.suppress(OSError):
                replace(path, before)


def _note(config: WorkerConfig) -> _Note | None:
    _give_way(_note_of(config))
    try:
        note = read_json(_note_of(config), _NOTE_BYTES)
        pid = int(note["pid"])
        return _Note(pid, str(note["address"]), str(note.get("settings", ""))) if pid > 0 else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


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
