"""Helpers that run the worker on files, which it must accept or refuse in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from real_worker import binary, flags

SECONDS = 60
COMFYUI = {
    "transformer": "diffusion_models/ovis_image_f32.safetensors",
    "text_encoder": "text_encoders/ovis_2.5.safetensors",
    "vae": "vae/ae.safetensors",
}
"""Each part's file in ComfyUI's `models` folder."""


def run(
    name: str,
    *positional: object,
    environment: dict[str, str] | None = None,
    before: list[str] | None = None,
    cwd: Path | None = None,
    **values: object,
) -> subprocess.CompletedProcess[str]:
    """Runs a command of the worker with backtraces enabled, and checks that it prints none."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_"))}
    env |= {"RUST_BACKTRACE": "1"} | (environment or {})
    command = [*(before or []), str(binary()), name, *map(str, positional), *flags(**values)]
    result = subprocess.run(command, capture_output=True, timeout=SECONDS, env=env, cwd=cwd)
    out, err = (stream.decode("utf-8") for stream in (result.stdout, result.stderr))
    for word in ("panicked", "backtrace", "RUST_BACKTRACE", "thread '", ".rs:", "(os error"):
        assert word not in out + err, out + err
    assert all(ord(c) >= 32 or c == "\n" for c in out + err)
    return subprocess.CompletedProcess(command, result.returncode, out, err)


def report(*positional: object, **values: object) -> dict:
    """The report of `inspect` on files that must be accepted."""
    result = run("inspect", *positional, json=True, **values)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def refused(result: subprocess.CompletedProcess[str], *words: object) -> str:
    """The single sentence of a refusal, which must contain all `words`, and its hint."""
    lines = result.stderr.splitlines()
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    assert result.stdout == ""
    assert 1 <= len(lines) <= 2, result.stderr
    assert lines[0].startswith("error: ")
    assert all(line.startswith("hint: ") for line in lines[1:])
    for word in words:
        assert str(word) in lines[0], lines[0]
    return result.stderr


def reasons(found: dict) -> dict[str, str]:
    return {Path(file["path"]).name: file["reason"] for file in found["skipped"]}


def beside(models: Path, path: str, content: object = b"") -> Path:
    file = models / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return file
