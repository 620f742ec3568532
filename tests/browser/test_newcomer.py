"""A newcomer's way to the first picture in the browser, without a compiler: the pack is found in
ComfyUI's manager and installed, ComfyUI restarts, and *Run* is pressed on the first workflow.

Runs when ``tests/browser/test_browser.py`` does and ``manager_registry`` has what it needs.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from comfy_server import ComfyServer, free_port
from judging import readers
from judging.scorer import judge
from manager_registry import REAL_REGISTRY, Machine, demand_manager
from posters.poster import Phrase, Poster
from real_comfyui import COMFYUI
from test_browser import CHROMIUM, play

SECONDS = 120
"""From the start of ComfyUI to the picture."""

demand_manager()
if "--enable-manager" not in (Path(COMFYUI) / "comfy" / "cli_args.py").read_text("utf-8"):
    pytest.skip(
        "SKIPPED: this ComfyUI has no manager of its own; its dialog was NOT tried.",
        allow_module_level=True,
    )


def test_from_the_managers_dialog_to_the_picture(tmp_path, capsys):
    screenshots = Path(os.environ.get("OVIS_SCREENSHOTS", tmp_path)) / "newcomer"
    screenshots.mkdir(parents=True, exist_ok=True)
    machine = Machine(Path(COMFYUI), tmp_path)
    environ = machine.environ | {"OVIS_WORKER_URL": f"ws://127.0.0.1:{free_port()}"}
    began, server = time.time(), None
    try:
        server = ComfyServer(
            machine.comfyui, machine.comfyui, environ, flags=["--enable-manager"],
            installed=True, python=str(machine.python),
        )  # fmt: skip
        asked = {
            "scenario": "newcomer",
            "address": f"http://127.0.0.1:{server.port}",
            "screenshots": str(screenshots),
            "chromium": CHROMIUM,
            "registry": {"real": REAL_REGISTRY, "ours": machine.registry.address},
        }
        started = time.time()
        seen = play(asked, server)
        assert machine.has_pack_and_worker
        assert seen["run"]["end"] == "execution_success", seen["run"]["error"]
        assert seen["troubles"] == {"missing": [], "red": [], "dialogs": []}
        (saved,) = [image for image in seen["run"]["images"] if image["type"] == "output"]
        with Image.open(machine.comfyui / "output" / saved["filename"]) as image:
            picture = np.asarray(image.convert("RGB"))
    finally:
        if server:
            server.stop()
        machine.close()
        stop_workers(machine.python)
    scores = judge(readers.load("paddle"), picture, Poster("", (Phrase("SUMMER"),)))
    assert scores.right, scores.found
    steps = {"": began, "ComfyUI starts": started}
    steps |= {name: milliseconds / 1000 for name, milliseconds in seen["at"].items()}
    with capsys.disabled():
        for (_, before), (name, after) in itertools.pairwise(steps.items()):
            print(f"\n{after - before:6.1f} s  {name}", end="")
    assert list(steps.values())[-1] - began <= SECONDS


def stop_workers(python: Path) -> None:
    """Ends the worker that the pack has started, which outlives ComfyUI."""
    program = str(python.parent / "ovis-worker")
    found = subprocess.run(["pgrep", "-f", program], capture_output=True, text=True)
    for number in found.stdout.split():
        os.kill(int(number), signal.SIGTERM)
