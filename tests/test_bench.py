"""`ovis-worker bench`: its figures are there, and fit together."""

from __future__ import annotations

import json
from pathlib import Path

from real_worker import command

FEW = {"width": 64, "height": 48, "steps": 3, "repeats": 2, "warmup": 1, "device": "cpu"}


def test_the_figures_fit_together(tiny: Path) -> None:
    result = command("bench", model=tiny / "diffusers", json=True, **FEW)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    stages = figures["stages"]
    counts = {name: stage["count"] for name, stage in stages.items()}
    whole_images = dict.fromkeys(("transport", "overhead", "image"), 2)
    assert counts == {"encode": 4, "step": 6, "decode": 2, **whole_images}
    for stage in stages.values():
        assert 0 < stage["least"] <= stage["median"] <= stage["most"]
    inside = 2 * stages["encode"]["least"] + 3 * stages["step"]["least"] + stages["decode"]["least"]
    assert inside <= stages["image"]["most"]
    # What the jobs do besides is on top of the wire.
    assert stages["transport"]["mean"] < stages["overhead"]["mean"] < stages["image"]["mean"]
    assert figures["precision"] == "f32"
    assert figures["paths"].startswith("CPU, ")
    assert figures["peak_bytes"] > 2**20
    # Both forwards of a step, and their share of what the machine could do.
    assert figures["forwards"] == {"asked": 6, "answered": 0}
    work = 2 * sum(figures["forward"].values())
    assert abs(figures["achieved"] * stages["step"]["mean"] / work - 1) < 1e-9
    assert figures["step_floor_seconds"] > 0


def test_what_the_shortcuts_spare_is_no_work_done() -> None:
    # Of 20 steps, those after sigma 0.5 have one forward.
    few = {**FEW, "steps": 20, "repeats": 1, "cache": "fast", "guidance_interval": "1,0.5"}
    result = command("bench", json=True, **few)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert (figures["cache"], figures["guidance_interval"]) == ("fast", [1.0, 0.5])
    asked, answered = figures["forwards"]["asked"], figures["forwards"]["answered"]
    assert 20 < asked < 40 and 0 < answered < asked
    whole, first_block = (sum(figures[name].values()) for name in ("forward", "answered_forward"))
    assert first_block < whole / 5
    work = ((asked - answered) * whole + answered * first_block) / 20
    assert abs(figures["achieved"] * figures["stages"]["step"]["mean"] / work - 1) < 1e-9


def test_a_table_for_people(tiny: Path) -> None:
    result = command("bench", model=tiny / "diffusers", cfg=1, **FEW)
    assert result.returncode == 0, result.stderr
    assert "64 x 48, 3 steps, cfg 1" in result.stdout
    assert "forwards     3 an image, of which the step cache answered 0" in result.stdout
    assert all(word in result.stdout for word in ("encode", "transport", "most memory", "GFLOP/s"))


def test_nothing_to_count_is_refused() -> None:
    result = command("bench", repeats=0)
    assert result.returncode == 2
    assert "--repeats" in result.stderr


def test_random_weights_and_a_model_are_one_too_many(tiny: Path) -> None:
    result = command("bench", model=tiny / "diffusers", random_weights="ovis-image-7b")
    assert result.returncode == 2
    assert "cannot be used with" in result.stderr
