"""Where the pack finds a worker's binary, what it starts it with, and how it says to update it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from comfy_node import wire
from comfy_node.settings import installed, lookup
from comfy_node.settings.config import ENVIRONMENT, ComfyFolders, WorkerConfig
from comfy_node.settings.installed import PROGRAM, Python, find_binary, how_installed
from comfy_node.worker import process as worker_process
from comfy_node.worker.cuda_libraries import library_folders, with_libraries
from comfy_node.worker.handshake import _other_version
from comfy_node.worker.process import WorkerProcess
from comfy_node.worker.start_hint import Machine
from comfy_node.worker.update_hint import how_to_update_pack, how_to_update_worker
from worker_binary import ROOT, binary, free_port, stop

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux libraries")


def program(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PROGRAM
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


class Places:
    """Empty folders in which a worker can be installed."""

    def __init__(self, root: Path) -> None:
        self.clone, self.home, self.path = root / "clone", root / "home", root / "path"
        self.scripts = (root / "env/bin", root / "user/bin")
        self.python = Python(str(root / "env/bin/python"), self.scripts)
        self.environ = {"PATH": str(self.path), "CARGO_HOME": str(self.home / ".cargo")}

    def found(self) -> str | None:
        return find_binary(self.environ, self.python, self.clone)

    def way(self, path: str) -> str:
        return how_installed(path, self.environ, self.python, self.clone)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def test_a_worker_is_found_in_this_order(places):
    assert places.found() is None
    ways = {
        places.home / ".cargo/bin": installed.CARGO,
        places.path: installed.ELSEWHERE,
        places.scripts[1]: installed.PIP,
        places.scripts[0]: installed.PIP,
        places.clone / "target/release": installed.CLONE,
    }
    for folder, way in ways.items():
        made = program(folder)
        assert places.found() == made and places.way(made) == way


def test_what_cannot_be_run_is_not_found(places):
    (places.scripts[0] / PROGRAM).mkdir(parents=True)
    path = Path(program(places.scripts[1]))
    path.chmod(0o644)
    if os.name != "nt":
        assert places.found() is None
    path.chmod(0o755)
    assert places.found() == str(path)


def test_the_places_of_this_python_are_those_of_pip():
    python = Python.running()
    assert python.executable == sys.executable
    assert Path(sys.executable).parent in python.scripts
    # A portable installation's python.exe lies beside the folder Scripts, which pip fills.
    assert Path(sys.executable).parent / "Scripts" in python.scripts
    user = {"nt": "Scripts", "posix": "bin"}[os.name]
    assert any(
        folder.name == user and folder.parent != Path(sys.prefix) for folder in python.scripts
    )


def site_packages(root: Path, *folders: str) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True)
    return root


@LINUX
def test_the_libraries_of_pytorch_for_cuda_13_are_passed_on(tmp_path):
    cudnn = "nvidia/cudnn/lib"
    for_13 = site_packages(
        tmp_path / "13", "nvidia/cu13/lib", cudnn, "nvidia_cudnn_cu13-9.20.0.48.dist-info"
    )
    for_12 = site_packages(
        tmp_path / "12", "nvidia/cublas/lib", cudnn, "nvidia_cudnn_cu12-9.10.2.21.dist-info"
    )
    without = site_packages(tmp_path / "none")
    expected = [str(for_13 / "nvidia/cu13/lib"), str(for_13 / cudnn)]
    assert library_folders(map(str, [without, for_12, for_13, for_13])) == expected
    assert library_folders(["", "/nowhere"]) == []
    environ = with_libraries({"LD_LIBRARY_PATH": "/mine:"}, [str(for_13)])
    assert environ["LD_LIBRARY_PATH"] == ":".join(["/mine", *expected])
    assert "LD_LIBRARY_PATH" not in with_libraries({}, [str(for_12)])


NEITHER = Machine(has_nvidia=False, has_cargo=False)


def test_each_way_of_installing_is_updated_by_its_own_command(tmp_path, monkeypatch):
    places = Places(tmp_path / "with space")
    monkeypatch.setattr(installed.Path, "home", lambda: places.home)
    monkeypatch.delenv("CARGO_HOME", raising=False)
    named = {
        program(places.scripts[0]): "python' -m pip install --upgrade ovis-worker-bin`",
        program(places.home / ".cargo/bin"): "`cargo install --locked --force --path ",
        program(places.path): f"replace {places.path}",
        str(installed.built_binary()): "&& cargo build --release`",
    }
    for path, command in named.items():
        config = WorkerConfig(binary=path)
        hint = how_to_update_worker(config, NEITHER, places.python)
        for text in (hint, hint.chinese.format(**hint.about)):
            assert command.removeprefix("replace ") in text
    far = how_to_update_worker(WorkerConfig(url="gpu.example:9", binary=program(places.path)))
    assert "pip install --upgrade ovis-worker-bin" in far and "git pull" in far


def test_a_pack_is_updated_as_it_was_installed(tmp_path):
    assert "comfy node update ovis-worker" in how_to_update_pack(tmp_path)
    (tmp_path / ".git").mkdir()
    assert f"`git -C {tmp_path} pull`" in how_to_update_pack(tmp_path)


@pytest.mark.parametrize(("theirs", "older"), [(-1, "Update the worker"), (1, "Update the node")])
def test_another_version_of_the_protocol_names_both_and_the_command(theirs, older):
    error = _other_version(WorkerConfig(binary="/opt/w"), wire.PROTOCOL_VERSION + theirs)
    assert str(wire.PROTOCOL_VERSION) in error.message and error.hint.startswith(older)


@LINUX
def test_a_worker_in_the_scripts_folder_is_started_and_stopped(tmp_path, tiny, monkeypatch):
    for name in ENVIRONMENT.values():
        monkeypatch.delenv(name, raising=False)
    scripts = tmp_path / "env/bin"
    scripts.mkdir(parents=True)
    (scripts / PROGRAM).symlink_to(binary())
    python = Python(sys.executable, (scripts,))
    monkeypatch.setattr(Python, "running", classmethod(lambda cls: python))
    monkeypatch.setattr(installed, "built_binary", lambda *_: tmp_path / "clone" / PROGRAM)
    port = free_port()
    monkeypatch.setenv("OVIS_WORKER_URL", f"ws://127.0.0.1:{port}")
    monkeypatch.setenv("OVIS_WORKER_MODEL", str(tiny / "diffusers"))
    config = lookup.resolve("local", ComfyFolders(tmp_path / "private"))
    assert config.binary == str(scripts / PROGRAM)
    process = WorkerProcess(config)
    deadline = time.monotonic() + 60
    while not _is_ready(port):
        assert process.exit_code is None and time.monotonic() < deadline, process.log_tail()
        time.sleep(0.1)
    # A later ComfyUI knows the process by its PID file and its command line alone.
    monkeypatch.setattr(worker_process, "_children", {})
    assert worker_process.may_stop(config) and not worker_process.needs_restart(config)
    worker_process.stop(config)
    assert process._process.wait(60) == 0
    assert not worker_process.may_stop(config)


@pytest.mark.parametrize("has_vae", [False, True])
def test_a_models_folder_without_ovis_weights_is_served_with_the_demo_model(tmp_path, has_vae):
    for folder in ("diffusion_models", "text_encoders", "vae"):
        (tmp_path / "models" / folder).mkdir(parents=True)
    if has_vae:
        vae = ROOT / "worker/demo/model/vae/diffusion_pytorch_model.safetensors"
        (tmp_path / "models/vae/ae.safetensors").symlink_to(vae)
    port = free_port()
    command = [binary(), "serve", "--model", tmp_path / "models", "--listen", f"127.0.0.1:{port}"]
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen([*command, "--or-demo"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not _is_ready(port):
            assert started.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        text = (tmp_path / "log").read_text()
        assert "has no transformer of Ovis-Image: the demo model is used" in text
    finally:
        stop(started)


def test_without_the_option_a_folder_without_weights_is_an_error(tmp_path):
    command = [binary(), "serve", "--model", tmp_path, "--listen", f"127.0.0.1:{free_port()}"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 1 and "holds no Ovis-Image weights" in refused.stderr


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
