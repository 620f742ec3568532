"""The worker binary that the tests start, a port for it, and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def binary() -> Path:
    """The worker to test: `OVIS_WORKER_TEST_BIN`, or the one that `cargo build` made."""
    named = os.environ.get("OVIS_WORKER_TEST_BIN")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = Path(named) if named else target / "debug" / "ovis-worker"
    assert path.is_file(), f"{path} is missing: run `cargo build -p ovis-worker` first"
    return path


def free_port() -> int:
    """A port on which nothing listens at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def stop(process: subprocess.Popen) -> None:
    """Asks a worker to stop if it still runs, and kills it if it does not in time."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
