"""Tells what to do on this machine if no worker answers."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from ..settings.config import PACK_ROOT, WorkerConfig
from ..settings.installed import PACKAGE
from ..texts import say
from .commands import pip_command

_DRIVER_FILES = (
    "/proc/driver/nvidia/version",
    "/dev/nvidiactl",
    "/usr/lib/wsl/lib/libcuda.so.1",
    r"C:\Windows\System32\nvcuda.dll",
)
"""Files of an NVIDIA driver on Linux, in WSL and on Windows."""

WHEELS = {
    ("linux", "x86_64"),
    ("darwin", "arm64"),
    ("win32", "AMD64"),
}
"""The systems and processors for which the worker's package has a binary."""


@dataclass(frozen=True)
class Machine:
    """The properties of a machine that decide how a worker is built and started."""

    has_nvidia: bool
    has_cargo: bool
    has_wheel: bool = True
    """Whether the worker's package on PyPI has a ready-made binary for it."""

    @classmethod
    def detect(cls) -> Machine:
        """Examines the machine that this process runs on."""
        driver = shutil.which("nvidia-smi") or any(map(os.path.exists, _DRIVER_FILES))
        suffix = ".exe" if os.name == "nt" else ""
        cargo = Path.home() / ".cargo" / "bin" / f"cargo{suffix}"
        has_cargo = bool(shutil.which("cargo")) or cargo.is_file()
        return cls(bool(driver), has_cargo, has_wheel(sys.platform, platform.machine()))


def has_wheel(system: str, processor: str) -> bool:
    """Whether the worker's package has a binary for a system: those of ``requirements.txt``."""
    return (system, processor) in WHEELS


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
    if machine.has_wheel:
        return say(
            "Install the worker: run `{command}`. The nodes then start it. If you have a binary "
            "elsewhere, set OVIS_WORKER_BIN to its path.",
            command=pip_command(PACKAGE),
        )
    build = build_command(machine)
    if not machine.has_cargo:
        return say(
            "There is no ready-made worker for this system. Install Rust from https://rustup.rs, "
            "then build the worker: run `{build}` in {folder}. The nodes then start it. If you "
            "have a binary elsewhere, set OVIS_WORKER_BIN to its path.",
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


def build_command(machine: Machine) -> str:
    """The command that builds the worker in a clone."""
    return "worker/cuda-toolchain build" if machine.has_nvidia else "cargo build --release"
