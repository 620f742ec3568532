"""Tells what to do on this machine if no worker answers."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..settings.config import PACK_ROOT, WorkerConfig
from ..texts import say

_DRIVER_FILES = (
    "/proc/driver/nvidia/version",
    "/dev/nvidiactl",
    "/usr/lib/wsl/lib/libcuda.so.1",
    r"C:\Windows\System32\nvcuda.dll",
)
"""Files of an NVIDIA driver on Linux, in WSL and on Windows."""


@dataclass(frozen=True)
class Machine:
    """The properties of a machine that decide how a worker is built and started."""

    has_nvidia: bool
    has_cargo: bool

    @classmethod
    def detect(cls) -> Machine:
        """Examines the machine that this process runs on."""
        driver = shutil.which("nvidia-smi") or any(map(os.path.exists, _DRIVER_FILES))
        suffix = ".exe" if os.name == "nt" else ""
        cargo = Path.home() / ".cargo" / "bin" / f"cargo{suffix}"
        return cls(bool(driver), bool(shutil.which("cargo")) or cargo.is_file())


def how_to_start(config: WorkerConfig, machine: Machine | None = None) -> str:
    """The hint for every error that says that no worker answers."""
    if not config.is_on_this_machine:
        return say(
            "Check host, port and token in the settings, and that no firewall blocks the "
            "connection. Check that the worker runs there: ovis-worker serve --model PATH "
            "--listen 0.0.0.0:{port} --token TOKEN",
            port=config.endpoint.port,
        )
    if config.binary:
        return say(
            "Start it in the Ovis tab of the sidebar, or run: {binary} serve --model PATH "
            "--listen {address}",
            binary=config.binary,
            address=config.address,
        )
    machine = machine or Machine.detect()
    build = "worker/cuda-toolchain build" if machine.has_nvidia else "cargo build --release"
    if not machine.has_cargo:
        return say(
            "Install Rust from https://rustup.rs, then build the worker: run `{build}` in "
            "{folder}. The nodes then start it. If you have a binary elsewhere, set "
            "OVIS_WORKER_BIN to its path.",
            build=build,
            folder=PACK_ROOT,
        )
    return say(
        "Build the worker: run `{build}` in {folder}. The nodes then start it. If you have a "
        "binary elsewhere, set OVIS_WORKER_BIN to its path, or run: ovis-worker serve "
        "--model PATH --listen {address}",
        build=build,
        folder=PACK_ROOT,
        address=config.address,
    )
