"""Fixtures that the tests share: the tiny checkpoint, its reference, and a running worker."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# A shell that starts the tests in the background has them ignore these signals, and every program
# that they start would inherit that. A handler of ours is not inherited.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint in float32, in all three layouts."""
    from make_tiny_checkpoint import make

    folder = tmp_path_factory.mktemp("tiny")
    make(folder)
    return folder


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint whose rows are blocks of 256."""
    from make_tiny_checkpoint import make

    folder = tmp_path_factory.mktemp("wide")
    make(folder, heads=8, text_width=256)
    return folder


@pytest.fixture(scope="session")
def poster_assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fonts and words of the demo model's posters, from the Debian packages of this machine."""
    from posters import fonts

    pytest.importorskip("fontTools")
    files = [fonts.SHARE / source.file for source in fonts.SOURCES.values()]
    files += [Path(file) for _, _, file in fonts.WORDS.values()]
    if lacking := [str(file) for file in files if not file.exists()]:
        pytest.skip(f"Debian packages are missing: {lacking}")
    folder = tmp_path_factory.mktemp("assets")
    fonts.gather(folder)
    return folder


@pytest.fixture
def models(tiny: Path, tmp_path: Path) -> Path:
    """A private copy of a ComfyUI `models` folder, with its tokenizer beside it."""
    shutil.copytree(tiny / "comfyui", tmp_path / "ComfyUI")
    return tmp_path / "ComfyUI" / "models"


@pytest.fixture
def diffusers(tiny: Path, tmp_path: Path) -> Path:
    """A private copy of a diffusers folder."""
    shutil.copytree(tiny / "diffusers", tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="session")
def reference(tiny: Path):
    """The reference pipeline on the tiny checkpoint, in float32."""
    from reference import Reference

    return Reference.load(tiny / "diffusers")


@pytest.fixture(scope="session")
def worker(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A worker that serves the tiny checkpoint in float32."""
    from real_worker import RealWorker

    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with RealWorker(tiny / "diffusers", log, device="cpu", precision="f32") as running:
        yield running
