"""The command of ComfyUI's manager installs the pack from a local archive, and the worker with it.

``manager_registry`` says what it needs.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from manager_registry import PACK, VERSION, Machine, demand_manager
from real_comfyui import COMFYUI

demand_manager()


def test_the_managers_command_installs_pack_and_worker(tmp_path):
    machine = Machine(Path(COMFYUI), tmp_path)
    try:
        done = subprocess.run(
            [str(machine.python), "-m", "cm_cli", "install", "--mode", "local", "--exit-on-fail",
             f"{PACK}@{VERSION}"],
            cwd=machine.comfyui, env=machine.environ, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    finally:
        machine.close()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert machine.has_pack_and_worker, f"{done.stdout}\n{done.stderr}"
    version = subprocess.run(
        [machine.python.parent / "ovis-worker", "--version"], capture_output=True, text=True
    )
    assert version.stdout == f"ovis-worker {VERSION}\n"
