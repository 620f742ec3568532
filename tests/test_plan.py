"""`inspect --plan` and `--vram`: what a budget of GPU memory means, without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from real_worker import RealWorker, command

GIB = 1 << 30
CARDS = [24, 16, 12, 8, 6]


def plans(model: Path, **arguments: object) -> dict:
    result = command("inspect", model=model, plan=True, json=True, **arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_table_of_cards(tiny: Path) -> None:
    result = command("inspect", model=tiny / "diffusers", plan=True)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "25 GB/s from host memory to the GPU (--link), 100 TFLOP/s" in lines[1]
    rows = [line.split() for line in lines if "GiB " in line]
    expected = [
        [f"{card}.0", "GiB", precision]
        for card in CARDS
        for precision in ("bf16", "fp8", "q8_0", "q4_k")
    ]
    assert [row[:3] for row in rows] == expected
    assert all("all weights stay on the GPU" in line for line in lines if "GiB " in line)


def test_every_number_is_in_the_json(tiny: Path) -> None:
    report = plans(tiny / "diffusers", vram="2GiB", precision="bf16", size="512x256", link="12G")
    assert set(report) == {"name", "target", "link", "speed", "plans"}
    assert report["target"] == {"width": 512, "height": 256, "batch": 1, "is_guided": True}
    assert (report["link"], report["speed"]) == (12e9, 100e12)
    (row,) = report["plans"]
    assert (row["budget"], row["precision"], row["refusal"]) == (2 * GIB, "bf16", None)
    plan = row["plan"]
    numbers = {
        *("budget", "peak", "overhead", "margin", "fixed", "vae", "scratch", "working"),
        *("streamed_each_step", "streamed_each_image", "pinned", "pageable", "mapped", "link"),
        "steps",
    }
    others = {
        *("precision", "is_vae_resident", "groups", "slots", "decode"),
        *("target", "seconds", "most"),
    }
    assert set(plan) == numbers | others
    assert all(plan[name] >= 0 for name in numbers)
    pages = sum(group["page"] * group["resident"] for group in plan["groups"])
    assert [group["name"] for group in plan["groups"]] == [
        "double-stream blocks",
        "single-stream blocks",
        "double-stream modulations",
        "single-stream modulations",
        "text encoder layers",
    ]
    parts = ("overhead", "margin", "fixed", "vae", "scratch", "working")
    assert pages + sum(plan[part] for part in parts) == plan["peak"] <= plan["budget"]
    assert set(plan["seconds"]) == {"step", "stall", "once", "image", "ratio"}
    assert plan["seconds"]["ratio"] == 1.0
    assert plan["most"]["side"] >= 512 and plan["most"]["batch"] >= 1


def test_one_plan_is_told_in_full(tiny: Path) -> None:
    model = tiny / "diffusers"
    result = command("inspect", model=model, plan=True, vram="8G", precision="BF16")
    assert result.returncode == 0, result.stderr
    for words in (
        "bf16 within 8.0 GiB of GPU memory",
        "driver, libraries and margin",
        "single-stream blocks: 2 of 2 stay  ##",
        "at the peak",
        "largest: one image of",
    ):
        assert words in result.stdout


def test_a_budget_that_is_too_small_is_refused_with_numbers(tiny: Path) -> None:
    model = tiny / "diffusers"
    result = command("inspect", model=model, plan=True, vram="900MiB", precision="bf16")
    assert result.returncode == 1
    error, hint = (line for line in result.stderr.splitlines() if line.strip())
    assert "in bf16 takes" in error and "the budget is 900.0 MiB" in error
    assert hint.startswith("hint: ") and hint.endswith(" would fit.") and "--vram 1.625GiB" in hint
    (row,) = plans(tiny / "diffusers", vram="900MiB", precision="bf16")["plans"]
    assert row["plan"] is None
    assert row["refusal"]["hint"] == hint.removeprefix("hint: ")
    # What the hint proposes works.
    enough = {"vram": "1.625GiB", "precision": "bf16"}
    assert command("inspect", model=model, plan=True, **enough).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"vram": "much"}, "--vram is `much`: it is not a number of bytes"),
        ({"size": "1024x100"}, "--size is `1024x100`: it is not a width and a height"),
        ({"link": "fast"}, "--link is `fast`"),
    ],
)
def test_values_are_checked(tiny: Path, arguments: dict[str, str], words: str) -> None:
    result = command("inspect", model=tiny / "diffusers", plan=True, **arguments)
    assert result.returncode == 2
    assert words in result.stderr


def test_a_budget_needs_the_plan(tiny: Path) -> None:
    result = command("inspect", model=tiny / "diffusers", vram="8G")
    assert result.returncode == 2
    assert "--plan" in result.stderr


def test_a_plan_takes_a_transformer(tiny: Path) -> None:
    result = command("inspect", model=tiny / "diffusers" / "vae", plan=True)
    assert result.returncode == 1
    assert "no transformer" in result.stderr


def test_on_a_cpu_a_budget_has_no_effect_and_is_said_to(tiny: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with RealWorker(tiny / "diffusers", log, device="cpu", vram="1MiB") as worker:
        assert json.loads(worker.get("/health")[1])["memory"] is None
    assert "--vram is a budget of GPU memory and has no effect on a CPU" in log.read_text()


def test_budgets_are_not_compared_on_a_cpu(tiny: Path) -> None:
    result = command("bench", model=tiny / "diffusers", device="cpu", vram="8G,6G")
    assert result.returncode == 1
    assert "budgets of GPU memory cannot be compared on a CPU" in result.stderr
