"""The adapter that ships with the demo model: its colours in any poster, the same letters, and no
trace without it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from adapter_files import inspect
from comfy_node import wire
from demo_pictures import draw
from judging import readers
from judging.scorer import judge
from posters.poster import Phrase, Poster
from real_worker import ROOT, RealWorker

MODEL = ROOT / "worker" / "demo" / "model"
TRAIN = ROOT / "worker" / "demo" / "train"
ADAPTER = MODEL / "loras" / "evening.safetensors"
CREAM, NAVY = (252, 240, 208), (18, 28, 72)
LIGHT_NAVY = (89, 96, 127)
"""The other end of a navy gradient (`posters/surfaces.py`)."""
PROMPT = 'Sale poster, headline "SUMMER" in bold red letters on a yellow background'


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWorker]:
    """A worker that was started without a model and without a folder of adapters."""
    log = tmp_path_factory.mktemp("demo") / "worker.log"
    with RealWorker(None, log, device="cpu") as running:
        yield running


def applied(strength: float) -> list[wire.AdapterUse]:
    return [wire.AdapterUse(ADAPTER.name, None, strength, strength)]


def part_near(picture: np.ndarray, *colors: tuple[int, int, int]) -> float:
    """The part of the pixels that differ by less than 40 in every channel from one of the colours,
    between which a gradient has all shades."""
    distances = [np.abs(picture.astype(np.int16) - color).max(-1) for color in colors]
    return float((np.minimum.reduce(distances) < 40).mean())


def test_the_worker_offers_it_by_itself(demo: RealWorker) -> None:
    (listed,) = demo.client.adapters().result(60)
    assert (listed.name, listed.title, listed.kind) == (ADAPTER.name, "Evening", "lora")
    assert listed.parts == ["transformer"] and listed.preview is not None


def test_a_poster_gets_its_colours_and_keeps_its_letters(demo: RealWorker) -> None:
    picture = draw(demo, PROMPT, 1, adapters=applied(1.0))
    assert part_near(picture, CREAM, NAVY, LIGHT_NAVY) > 0.9
    scores = judge(readers.load("paddle"), picture, Poster("", (Phrase("SUMMER"),)))
    assert scores.right, scores.found


def test_nothing_of_it_is_left_in_the_next_picture(demo: RealWorker) -> None:
    before = draw(demo, PROMPT, 1, steps=4)
    assert part_near(before, CREAM, NAVY, LIGHT_NAVY) < 0.3
    assert not np.array_equal(draw(demo, PROMPT, 1, steps=4, adapters=applied(0.5)), before)
    assert np.array_equal(draw(demo, PROMPT, 1, steps=4), before)


def test_its_recipe_writes_an_adapter_that_fits(tmp_path: Path) -> None:
    out = tmp_path / "made.safetensors"
    options = ["--steps", "2", "--batch", "1", "--rank", "2", "--device", "cpu"]
    command = [sys.executable, TRAIN / "adapter.py", out, *options]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    report = inspect(out, transformer=MODEL / "transformer")
    shipped = inspect(ADAPTER, transformer=MODEL / "transformer")
    assert report["fits"] and report["transformer"] == shipped["transformer"]
    assert report["ranks"] == {"2": len(report["transformer"])}


def test_its_file_is_small_and_says_what_it_is() -> None:
    assert ADAPTER.stat().st_size < 1_000_000
    with safe_open(ADAPTER, "pt") as file:
        description = file.metadata()["modelspec.description"]
    assert description.startswith("Cream letters on a navy gradient")
    report = inspect(ADAPTER, transformer=MODEL / "transformer")
    assert report["name"] == "Evening" and report["fits"]
    assert ADAPTER.with_suffix(".jpg").stat().st_size < 64 * 1024
