"""Tells how to update what is older, the worker or the node pack."""

from __future__ import annotations

from pathlib import Path

from ..settings.config import PACK_ROOT, WorkerConfig
from ..settings.installed import CARGO, CLONE, PACKAGE, PIP, Python, how_installed
from ..texts import say
from .commands import pip_command, quoted
from .start_hint import Machine, build_command


def how_to_update_worker(
    config: WorkerConfig, machine: Machine | None = None, python: Python | None = None
) -> str:
    """The hint for a worker that speaks an older version of the protocol than this pack."""
    if not (config.is_on_this_machine and config.binary):
        return say(
            "Update the worker, which is the older of the two: on its machine, run `pip install "
            "--upgrade {package}`, or `git pull` and the build in its clone; then restart it.",
            package=PACKAGE,
        )
    way = how_installed(config.binary, python=python)
    folder = quoted(PACK_ROOT)
    if way == PIP:
        command = pip_command("--upgrade", PACKAGE, python=python)
    elif way == CLONE:
        command = f"cd {folder} && {build_command(machine or Machine.detect())}"
    elif way == CARGO:
        command = f"cargo install --locked --force --path {quoted(PACK_ROOT / 'worker')}"
    else:
        return say(
            "Update the worker, which is the older of the two: replace {binary} by a newer "
            "version, and restart it in the Ovis tab of the sidebar.",
            binary=config.binary,
        )
    return say(
        "Update the worker, which is the older of the two: run `{command}`, and restart it in the "
        "Ovis tab of the sidebar.",
        command=command,
    )


def how_to_update_pack(root: Path = PACK_ROOT) -> str:
    """The hint for a node pack that is older than the worker."""
    if (root / ".git").exists():
        return say(
            "Update the node pack, which is the older of the two: run `{command}`, and restart "
            "ComfyUI.",
            command=f"git -C {quoted(root)} pull",
        )
    return say(
        "Update the node pack, which is the older of the two: in ComfyUI's manager, or run "
        "`{command}`; then restart ComfyUI.",
        command="comfy node update ovis-worker",
    )
