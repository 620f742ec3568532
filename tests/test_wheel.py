"""The worker's Python package in environments without a compiler.

Runs when ``OVIS_WORKER_WHEEL`` names a package that ``packaging/wheel`` has built for this machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manager_registry import packed
from worker_binary import ROOT

NAMED = os.environ.get("OVIS_WORKER_WHEEL")
if not NAMED:
    SKIPPED = (
        "SKIPPED: the worker's Python package was NOT tried. Set OVIS_WORKER_WHEEL to one that "
        "packaging/wheel has built."
    )
    warnings.warn(SKIPPED, stacklevel=1)
    pytest.skip(SKIPPED, allow_module_level=True)

WHEEL = Path(NAMED).resolve()
MAX_BYTES = 80 * 10**6
NEWEST_GLIBC = (2, 31)
PROMPT = 'Sale poster, headline "SUMMER" in bold red letters on a yellow background'
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux libraries")
COMPILER = shutil.which("cc")


class Environment:
    """A virtual environment with nothing but pip in it."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.scripts / "python"
        self.environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}

    def pip(self, *arguments: object) -> None:
        """Installs without a network, with the package's folder as the only index."""
        command = [self.python, "-m", "pip", "install", "--no-index", "--find-links", WHEEL.parent]
        subprocess.run([*command, *arguments], check=True, capture_output=True, timeout=300)

    def worker(self, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
        """Runs the installed worker as a user without anything else would."""
        return subprocess.run(
            [str(self.scripts / "ovis-worker"), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=self.scripts,
            env={**self.environ, **environ},
        )


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("bare"))
    environment.pip(WHEEL)
    return environment


def small(out: Path, *more: object) -> list[object]:
    """Arguments of a quick image."""
    sizes = ["--width", 256, "--height", 256, "--steps", 2]
    return ["generate", *sizes, "--prompt", PROMPT, "--out", out, *more]


def test_the_package_is_small_and_complete():
    assert WHEEL.stat().st_size <= MAX_BYTES
    with zipfile.ZipFile(WHEEL) as wheel:
        names = wheel.namelist()
        metadata = wheel.read(next(n for n in names if n.endswith(".dist-info/METADATA"))).decode()
    version = re.search(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text())[1]
    assert "Name: ovis-worker-bin\n" in metadata and f"Version: {version}\n" in metadata
    assert "Provides-Extra: cuda" in metadata
    shared = f"ovis_worker_bin-{version}.data/data/share/ovis-worker"
    model = ROOT / "worker/demo/model"
    inside = {name.removeprefix(f"{shared}/demo-model/") for name in names if "demo-model" in name}
    wanted = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert inside == wanted and f"{shared}/LICENSE" in names


@LINUX
def test_it_runs_on_the_glibc_of_debian_11():
    assert WHEEL.name.split("-")[2:4] == ["py3", "none"]
    needed = [tuple(map(int, two)) for two in re.findall(r"manylinux_(\d+)_(\d+)", WHEEL.name)]
    assert needed and min(needed) <= NEWEST_GLIBC


@LINUX
@pytest.mark.skipif(shutil.which("readelf") is None, reason="there is no readelf here")
def test_no_cuda_library_is_needed_to_start_it(bare):
    command = ["readelf", "--dynamic", bare.scripts / "ovis-worker"]
    dynamic = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[(.+)\]", dynamic))
    assert "libc.so.6" in needed and not re.search(r"libcu|libnv", " ".join(needed))
    assert "RUNPATH" not in dynamic and "RPATH" not in dynamic


def test_it_draws_the_poster_of_the_readme(bare, tmp_path):
    """Without a model: the demo model is in the package."""
    drawn = bare.worker("generate", "--steps", 20, "--out", tmp_path / "o.png", "--prompt", PROMPT)
    assert drawn.returncode == 0, drawn.stderr
    with Image.open(tmp_path / "o.png") as image, Image.open(ROOT / "worker/demo/poster.png") as it:
        found, wanted = (np.asarray(one.convert("RGB"), float) for one in (image, it))
    assert found.shape == wanted.shape and np.abs(found - wanted).mean() < 2


@LINUX
def test_a_machine_without_a_gpu_is_told_in_one_sentence(bare, tmp_path):
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    drawn = bare.worker(*small(tmp_path / "o.png"))
    (line,) = [line for line in drawn.stderr.splitlines() if "GPU" in line]
    assert drawn.returncode == 0 and "no GPU is used: there is no NVIDIA driver" in line
    refused = bare.worker(*small(tmp_path / "p.png", "--device", "cuda"))
    assert refused.returncode == 1 and "error: there is no NVIDIA driver" in refused.stderr
    assert not (tmp_path / "p.png").exists()


DRIVERS = {
    "an old one": (12040, 0, "supports CUDA 12.4, and ovis-worker needs 13.0"),
    "no device": (13000, 100, "the NVIDIA driver offers no GPU"),
    "no libraries": (13000, 0, "CUDA's library libcublasLt.so.13 cannot be opened"),
}


@LINUX
@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler here")
@pytest.mark.parametrize(("version", "status", "sentence"), DRIVERS.values(), ids=DRIVERS.keys())
def test_a_driver_that_cannot_be_used_is_told_in_one_sentence(
    bare, tmp_path, version, status, sentence
):
    """With a stand-in for the driver that has all functions and answers the first questions."""
    source = (ROOT / "worker/src/nn/cuda/functions.rs").read_text(encoding="utf-8")
    (listed,) = re.findall(r"DRIVER, 3, \[([^\]]*)\]", source)
    functions = [f"int {name}(void) {{ return 3; }}" for name in listed.split() if name != "cuInit"]
    functions += [f"int cuInit(unsigned flags) {{ return {status}; }}"]
    functions += [f"int cuDriverGetVersion(int *to) {{ *to = {version}; return 0; }}"]
    (tmp_path / "driver.c").write_text("\n".join(functions))
    library = tmp_path / "libcuda.so.1"
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-w", "-fno-builtin", tmp_path / "driver.c", "-o", library],
        check=True,
    )
    drawn = bare.worker(*small(tmp_path / "o.png"), LD_LIBRARY_PATH=str(tmp_path))
    (line,) = [line for line in drawn.stderr.splitlines() if "no GPU is used" in line]
    assert drawn.returncode == 0 and sentence in line, drawn.stderr


def test_the_managers_steps_install_pack_and_worker(tmp_path):
    """It unpacks the registry's package and installs its requirements; there is no install.py."""
    pack = tmp_path / "ComfyUI/custom_nodes/ovis-worker"
    for name in packed():
        (pack / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, pack / name)
    assert not (pack / "install.py").exists() and not (pack / "worker").exists()
    environment = Environment(tmp_path / "python")
    environment.pip("--requirement", pack / "requirements.txt")
    question = (
        "import json, os; from comfy_node.settings.installed import find_binary, how_installed; "
        "found = find_binary(os.environ); print(json.dumps([found, how_installed(found)]))"
    )
    asked = subprocess.run(
        [environment.python, "-c", question],
        cwd=pack,
        env=environment.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert asked.returncode == 0, asked.stderr
    found, way = json.loads(asked.stdout)
    assert Path(found).parent == environment.scripts and way == "pip"
    assert environment.worker("--version").stdout.startswith("ovis-worker ")
