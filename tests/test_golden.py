"""The golden files match what this PyTorch and this diffusers produce."""

from __future__ import annotations

import json

from safetensors.torch import load_file

import make_golden


def test_noise() -> None:
    golden = load_file(make_golden.GOLDEN / "noise.safetensors")
    made = make_golden.noise()
    assert golden.keys() == made.keys()
    # PyTorch's builds for different processors differ by up to 2e-6.
    assert all((golden[name] - made[name]).abs().max() <= 4e-6 for name in made)


def test_sigmas() -> None:
    for entry in json.loads((make_golden.GOLDEN / "sigmas.json").read_text()):
        made = make_golden.sigmas(entry["steps"], entry["image_tokens"], entry["shift"])
        assert len(entry["sigmas"]) == len(made) == entry["steps"] + 1
        assert max(abs(a - b) for a, b in zip(entry["sigmas"], made, strict=True)) <= 1e-6
