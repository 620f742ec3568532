"""The samplers' golden values match what this ComfyUI produces.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout. `cargo test` compares the worker with the
golden values.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from safetensors.torch import load_file

import make_golden_sampling
from make_golden_sampling import GOLDEN
from reference import relative_error

COMFYUI = os.environ.get("OVIS_COMFYUI")

if not COMFYUI:
    SKIPPED = (
        "SKIPPED: the golden values of the samplers were NOT compared with a ComfyUI. "
        "Set OVIS_COMFYUI to a ComfyUI checkout to run tests/test_golden_sampling.py."
    )
    warnings.warn(SKIPPED, stacklevel=1)
    pytest.skip(SKIPPED, allow_module_level=True)

OWN_SEED = (0, 18)
"""From this version on, `euler_ancestral` on a CPU draws with a seed one higher."""


def contents(folder: Path) -> tuple[dict, dict]:
    described = json.loads((folder / "sampling.json").read_text())
    return described, load_file(folder / "sampling.safetensors")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[dict, dict]:
    folder = tmp_path_factory.mktemp("golden")
    python = os.environ.get("OVIS_COMFYUI_PYTHON", sys.executable)
    script = make_golden_sampling.__file__
    subprocess.run([python, script, COMFYUI, str(folder)], check=True, timeout=300)
    return contents(folder)


def close(ours: list[float], theirs: list[float]) -> bool:
    return len(ours) == len(theirs) and all(
        abs(a - b) <= 1e-6 for a, b in zip(ours, theirs, strict=True)
    )


def test_sigmas(made) -> None:
    golden, described = contents(GOLDEN)[0], made[0]
    assert len(golden["schedules"]) == len(described["schedules"])
    for kind in ("schedules", "runs"):
        for ours, theirs in zip(golden[kind], described[kind], strict=True):
            assert close(ours.pop("sigmas"), theirs.pop("sigmas")), theirs
            assert ours == theirs


def test_latents(made) -> None:
    golden, results = contents(GOLDEN)
    text = (Path(COMFYUI) / "comfyui_version.py").read_text()
    version = tuple(map(int, re.search(r"(\d+)\.(\d+)", text).groups()))
    for run in golden["runs"]:
        if run["sampler"] == "euler_ancestral" and version < OWN_SEED:
            continue
        name = run["result"]
        # Processors round square roots differently (see the worker's `ancestral`), and NumPy before
        # version 2 computes the coefficients of `lms` in double precision.
        most = {"dpmpp_sde": 2e-4, "lms": 1e-4}.get(run["sampler"], 1e-5)
        assert relative_error(made[1][name], results[name]) <= most, run
