"""A newcomer's way to the first picture, without a compiler: the manager's own command installs
pack and worker into a clean ComfyUI, and *Run* is pressed on the first workflow in a browser.

Runs when ``tests/browser/test_browser.py`` does, ``OVIS_WORKER_WHEEL`` names the worker's package
and ``OVIS_COMFYUI_PYTHON`` has ComfyUI's manager (``pip install comfyui-manager``). ComfyUI itself
is installed already: its requirements are those of that Python.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import manager_registry
from comfy_server import ComfyServer, free_port
from judging import readers
from judging.scorer import judge
from posters.poster import Phrase, Poster
from real_comfyui import COMFYUI
from test_browser import CHROMIUM, play

PYTHON = os.environ.get("OVIS_COMFYUI_PYTHON", sys.executable)
WHEEL = os.environ.get("OVIS_WORKER_WHEEL")
SECONDS = 120
"""From the manager's command to the picture."""

if not WHEEL:
    pytest.skip(
        "SKIPPED: a newcomer's way was NOT tried. Set OVIS_WORKER_WHEEL to the worker's package.",
        allow_module_level=True,
    )
HAS_MANAGER = [PYTHON, "-c", "import importlib.util as u; exit(not u.find_spec('cm_cli'))"]
if subprocess.run(HAS_MANAGER, capture_output=True).returncode:
    pytest.skip(
        f"SKIPPED: a newcomer's way was NOT tried: {PYTHON} lacks comfyui-manager.",
        allow_module_level=True,
    )


def site_packages(python: str) -> str:
    """The folder of a Python's packages."""
    question = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", question], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """A ComfyUI without packs, and a Python with its requirements and nothing else."""
    comfyui = tmp_path / "ComfyUI"
    shutil.copytree(COMFYUI, comfyui, ignore=shutil.ignore_patterns(".git", "user", "output"))
    venv.create(tmp_path / "python", with_pip=True)
    python = tmp_path / "python" / "bin" / "python"
    # What is installed from now on goes into the new environment.
    base = "\n".join((site_packages(PYTHON), *inherited(PYTHON)))
    (Path(site_packages(str(python))) / "comfyui.pth").write_text(base + "\n")
    return comfyui, python


def inherited(python: str) -> list[str]:
    """Further folders on a Python's path that `.pth` files have put there."""
    question = "import sys; print('\\n'.join(p for p in sys.path if p.endswith('site-packages')))"
    done = subprocess.run([python, "-c", question], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_from_the_managers_command_to_the_picture(machine, tmp_path, capsys):
    comfyui, python = machine
    registry = manager_registry.Registry(tmp_path)
    steps, port = [("", time.monotonic())], free_port()
    try:
        said = manager_registry.install(python, comfyui, registry, Path(WHEEL).parent)
    finally:
        registry.close()
    assert (comfyui / "custom_nodes/ovis-worker/.tracking").exists(), said
    assert (python.parent / "ovis-worker").exists(), said
    steps.append(("the manager installs pack and worker", time.monotonic()))
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "OVIS_WORKER_URL": f"ws://127.0.0.1:{port}",
    }
    server = ComfyServer(comfyui, comfyui, environ, installed=True, python=str(python))
    try:
        steps.append(("ComfyUI starts", time.monotonic()))
        told = {"address": f"http://127.0.0.1:{server.port}", "screenshots": str(tmp_path)}
        seen = play({"scenario": "newcomer", "chromium": CHROMIUM, **told}, server)
        steps.append(("the page opens, the workflow runs", time.monotonic()))
        assert seen["run"]["end"] == "execution_success", seen["run"]["error"]
        (saved,) = [image for image in seen["run"]["images"] if image["type"] == "output"]
        with Image.open(comfyui / "output" / saved["subfolder"] / saved["filename"]) as image:
            picture = np.asarray(image.convert("RGB"))
    finally:
        server.stop()
        stop_workers(python)
    scores = judge(readers.load("paddle"), picture, Poster("", (Phrase("SUMMER"),)))
    assert scores.right, scores.found
    with capsys.disabled():
        for (_, began), (name, ended) in itertools.pairwise(steps):
            print(f"\n{ended - began:6.1f} s  {name}", end="")
    assert steps[-1][1] - steps[0][1] <= SECONDS


def stop_workers(python: Path) -> None:
    """Ends the worker that the pack has started, which outlives ComfyUI."""
    program = str(python.parent / "ovis-worker")
    found = subprocess.run(["pgrep", "-f", program], capture_output=True, text=True)
    for number in found.stdout.split():
        os.kill(int(number), signal.SIGTERM)
