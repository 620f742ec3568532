"""Helpers that run the worker's commands with arbitrary arguments and read what they write."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from real_worker import binary, flags

DESCRIPTION = 0x010E
"""EXIF's ImageDescription, where JPEG and WebP files hold the parameters."""


def worker_command(
    name: str, *raw: str | bytes, env: dict[str, str] | None = None, **values: object
) -> subprocess.CompletedProcess[str]:
    """A command with raw arguments before the named ones, and a modified environment."""
    given = values.pop("options", {})
    return subprocess.run(
        [str(binary()), name, *raw, *flags(**values)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
        env={**os.environ, **(env or {})},
        **given,
    )


def small(tiny: Path, out: Path | str, **others: object) -> dict[str, object]:
    return {
        "model": tiny / "diffusers",
        "prompt": "a",
        "width": 64,
        "height": 48,
        "steps": 1,
        "cfg": 1,
        "device": "cpu",
        "out": out,
        **others,
    }


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The single sentence of a refusal; checks that nothing was loaded before it."""
    assert result.returncode in (1, 2), result
    assert "panicked" not in result.stderr and "unexpected failure" not in result.stderr
    assert "loading" not in result.stderr, result.stderr
    assert "\x1b" not in result.stderr
    error, *rest = result.stderr.splitlines()
    assert error.startswith("error: "), result.stderr
    assert not any(line.startswith("error: ") for line in rest)
    return error


def wait_for(stream: Sequence[str], word: str) -> None:
    for line in stream:
        if word in line:
            return
    raise AssertionError(f"no {word}")


def parameters(file: Path) -> dict:
    with Image.open(file) as image:
        image.load()
        if image.format == "PNG":
            return json.loads(image.text["ovis-worker"])
        return json.loads(image.getexif()[DESCRIPTION])
