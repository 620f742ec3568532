"""Starts a worker that outlives the process that started it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from .errors import NoWorker
from .settings import WorkerConfig

_LOG_TAIL_BYTES = 2000


def how_to_start(config: WorkerConfig) -> str:
    """The hint that ends every "no worker answers"."""
    if not config.is_on_this_machine:
        return f"Start it there: ovis-worker serve --model PATH --listen {config.address}"
    return (
        f"Start one: ovis-worker serve --model PATH --listen {config.address}\n"
        "Or set OVIS_WORKER_BIN to the binary (`cargo build --release` in this node pack's folder "
        "makes target/release/ovis-worker) and OVIS_WORKER_MODEL to the weights, restart "
        "ComfyUI, and it is started for you."
    )


class WorkerProcess:
    """A started worker: detached, with its output in a log file."""

    def __init__(self, config: WorkerConfig) -> None:
        """Starts the binary of ``config``; raises :class:`NoWorker` when it does not start."""
        self.log = Path(config.log or Path(tempfile.gettempdir()) / "ovis_worker.log")
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
                f"The worker binary {config.binary} could not be started: {error}.",
                how_to_start(config),
            ) from error

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


def _detached() -> dict:
    """Popen's options that keep a Ctrl-C or a closed terminal away from the worker."""
    if os.name == "nt":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
        return {"creationflags": flags}
    return {"start_new_session": True}
