"""The worker tells systemd when it is ready, that it is alive, and that it is stopping."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from worker_binary import binary, free_port, stop

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="systemd's protocol")


@pytest.fixture(params=["a path", "an abstract name"])
def manager(request, tmp_path):
    """A socket like systemd's, and its name in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(60)
        path = str(tmp_path / "notify")
        abstract = request.param == "an abstract name"
        listener.bind(f"\0{path}" if abstract else path)
        yield listener, f"@{path}" if abstract else path


def served(tiny: Path, **environ: str) -> subprocess.Popen:
    command = [
        binary(),
        "serve",
        "--model",
        tiny / "diffusers",
        "--listen",
        f"127.0.0.1:{free_port()}",
    ]
    return subprocess.Popen(command, env={**os.environ, **environ}, stderr=subprocess.DEVNULL)


def test_it_says_that_it_is_ready_alive_and_stopping(manager, tiny):
    listener, name = manager
    worker = served(tiny, NOTIFY_SOCKET=name, WATCHDOG_USEC="400000")
    try:
        assert [listener.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        worker.send_signal(signal.SIGTERM)
        while (said := listener.recv(100)) == b"WATCHDOG=1":
            pass
        assert said == b"STOPPING=1" and worker.wait(60) == 0
    finally:
        stop(worker)


def test_without_a_watchdog_it_only_says_when_something_changes(manager, tiny):
    listener, name = manager
    other = {"WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"}
    worker = served(tiny, NOTIFY_SOCKET=name, **other)
    try:
        assert listener.recv(100) == b"READY=1"
        listener.settimeout(1)
        with pytest.raises(TimeoutError):
            listener.recv(100)
    finally:
        stop(worker)
    listener.settimeout(5)
    assert listener.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("name", ["", "/nowhere/at/all", "@", "x" * 300], ids=repr)
def test_a_manager_that_is_not_there_changes_nothing(tiny, name):
    worker = served(tiny, NOTIFY_SOCKET=name, WATCHDOG_USEC="soon")
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(2)
    finally:
        stop(worker)
    assert worker.returncode == 0
