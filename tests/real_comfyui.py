"""A real ComfyUI with the node pack and workers that the pack itself starts, and graphs for it.

A test file that imports this runs when ``OVIS_COMFYUI`` names a ComfyUI checkout, and is skipped
otherwise; ``OVIS_COMFYUI_PYTHON`` names the Python that has its requirements (default: this one).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch

import native_models
from adapter_files import loras, matrix_shapes, peft_names, write
from comfy_server import ROOT, ComfyServer, Run, free_port
from real_worker import binary

COMFYUI = os.environ.get("OVIS_COMFYUI")
SETTINGS = "user/__ovis_worker/ovis_worker.json"
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))

if not COMFYUI:
    SKIPPED = (
        "SKIPPED: the node pack was NOT tried in a real ComfyUI. "
        "Set OVIS_COMFYUI to a ComfyUI checkout to run the tests in it."
    )
    warnings.warn(SKIPPED, stacklevel=1)
    pytest.skip(SKIPPED, allow_module_level=True)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Workers:
    """Puts a script in front of the worker's binary that records each start, and gives it a folder
    of adapters, `loras`."""

    def __init__(self, base: Path) -> None:
        self._started = base / "workers.started"
        self._started.touch()
        self.ports = {"local": free_port(), "full": free_port()}
        self.binary = base / "ovis-worker"
        self.loras = base / "loras"
        paths = (binary(), self._started, self.loras)
        real, started, loras = (shlex.quote(str(path)) for path in paths)
        self.binary.write_text(
            "#!/bin/sh\n"
            f'echo $$ "$@" >> {started}\n'
            f'[ "$1" = serve ] && set -- "$@" --lora-dir {loras}\n'
            f'exec {real} "$@"\n'
        )
        self.binary.chmod(self.binary.stat().st_mode | stat.S_IXUSR)

    def gone(self) -> list[str]:
        """The labels of workers that were started but do not answer."""
        lines = self._started.read_text().splitlines()
        addresses = {line.partition("--listen ")[2].split()[0] for line in lines}
        return [
            label
            for label, port in self.ports.items()
            if f"127.0.0.1:{port}" in addresses and not answers(port)
        ]

    def stop(self) -> None:
        for line in self._started.read_text().splitlines():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGTERM)


def write_adapter(transformer: Path, folder: Path) -> None:
    """Writes an adapter for a transformer under the name of the demo model's."""
    folder.mkdir()
    weights = load_torch(next(transformer.glob("*.safetensors")))
    blocks = {name: t for name, t in weights.items() if "blocks" in name and "norm" not in name}
    tensors = peft_names(loras(matrix_shapes(blocks)), "transformer.")
    write(folder / "evening.safetensors", tensors)


@pytest.fixture(scope="module")
def comfy(tiny, tmp_path_factory, request):
    """ComfyUI with two workers, which the pack starts when they are needed; the test file's
    ``COMFYUI_FLAGS`` are added to its command line.

    `local` has the tiny checkpoint; `full` uses ComfyUI's own models folder, with weights that the
    native nodes can load too.
    """
    base = tmp_path_factory.mktemp("comfyui")
    native_models.write(base / "models")
    workers = Workers(base)
    write_adapter(tiny / "diffusers" / "transformer", workers.loras)
    full = {"url": f"ws://127.0.0.1:{workers.ports['full']}", "binary": str(workers.binary)}
    settings = base / SETTINGS
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"workers": {"full": full}}))
    environ = {
        "OVIS_WORKER_URL": f"ws://127.0.0.1:{workers.ports['local']}",
        "OVIS_WORKER_BIN": str(workers.binary),
        "OVIS_WORKER_MODEL": str(tiny / "diffusers"),
        "OVIS_SMALL_TEXT_ENCODER": json.dumps(native_models.TEXT_GEOMETRY),
    }
    packs = [ROOT / "tests" / "comfy_test_pack"]
    try:
        flags = getattr(request.module, "COMFYUI_FLAGS", ())
        server = ComfyServer(Path(COMFYUI), base, environ, packs, flags)
        server.worker_port = workers.ports["local"]
        try:
            yield server
        finally:
            server.stop()
        assert not workers.gone(), "a started worker did not outlive ComfyUI"
    finally:
        workers.stop()


def link(node: str, output: int = 0) -> list:
    return [node, output]


def graph(**changes: object) -> dict:
    """A small text to image graph in API format; ``node__input=value`` changes an input."""
    nodes = {
        "worker": ("OvisWorker", {"worker": "local"}),
        "positive": (
            "OvisEncode",
            {"worker": link("worker"), "prompt": "a red square", "max_sequence_length": 32},
        ),
        "negative": (
            "OvisEncode",
            {"worker": link("worker"), "prompt": "", "max_sequence_length": 32},
        ),
        "empty": ("EmptySD3LatentImage", {"width": 64, "height": 96, "batch_size": 1}),
        "denoise": (
            "OvisKSampler",
            {
                "worker": link("worker"),
                "positive": link("positive"),
                "negative": link("negative"),
                "latent_image": link("empty"),
                "seed": 7,
                "steps": 2,
                "cfg": 5.0,
                "sampler_name": "euler",
                "scheduler": "flux",
                "denoise": 1.0,
                "shift": 0.0,
            },
        ),
        "decode": ("OvisVAEDecode", {"worker": link("worker"), "samples": link("denoise")}),
        "image": ("SaveImage", {"images": link("decode"), "filename_prefix": "small"}),
        "latents": ("SaveLatent", {"samples": link("denoise"), "filename_prefix": "small"}),
    }
    made = {name: {"class_type": kind, "inputs": dict(ins)} for name, (kind, ins) in nodes.items()}
    for where, value in changes.items():
        name, _, key = where.partition("__")
        if key:
            made[name]["inputs"][key] = value
        else:
            kind, inputs = value
            made[name] = {"class_type": kind, "inputs": inputs}
    return made


def undecoded(graph: dict) -> dict:
    """The graph without decoding, which is most of a small graph's work."""
    return {name: node for name, node in graph.items() if name not in ("decode", "image")}


def latents_of(comfy: ComfyServer, run: Run) -> np.ndarray:
    assert run.of("execution_success"), run.error or comfy.tail()
    (name,) = run.files("latents")
    return load_file(comfy.base / "output" / name)["latent_tensor"]


def steps_shown(run: Run, node: str | None = None) -> list[tuple[float, float]]:
    """The positions of the progress bar and its totals, for one node or for all."""
    shown = [p for p in run.of("progress") if node in (None, p["node"])]
    return [(float(p["value"]), float(p["max"])) for p in shown]


def pixels_of(comfy: ComfyServer, run: Run) -> np.ndarray:
    assert run.of("execution_success"), run.error or comfy.tail()
    (name,) = run.files("images")
    with Image.open(comfy.base / "output" / name) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def native(comfy):
    """A ComfyUI that has Ovis-Image itself."""
    kinds = comfy.info["CLIPLoader"]["input"]["required"]["type"][0]
    if "ovis" not in kinds:
        reason = (
            f"SKIPPED: the ComfyUI in {COMFYUI} has no native Ovis-Image, so the interchange "
            "with its nodes was NOT tried. ComfyUI has it since December 2025."
        )
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    return comfy


def both(**changes: object) -> dict:
    """The small graph on the worker that shares its models with the native nodes."""
    common = {
        "worker__worker": "full",
        "positive__max_sequence_length": 256,
        "negative__max_sequence_length": 256,
        "denoise__steps": 4,
        "denoise__shift": 3.0,
    }
    return graph(**{**common, **changes})


def with_native_denoise(ours: dict) -> dict:
    """The same graph with the native sampler instead of our denoise."""
    unet = {"unet_name": native_models.TRANSFORMER, "weight_dtype": "default"}
    inputs = dict(ours["denoise"]["inputs"])
    shift = inputs.pop("shift")
    del inputs["worker"]
    inputs["model"] = link("shifted")
    if inputs["scheduler"] == "flux":  # which is the same as `simple` with a shift
        inputs["scheduler"] = "simple"
    shifted = {"model": link("unet"), "shift": shift}
    return {
        **ours,
        "unet": {"class_type": "UNETLoader", "inputs": unet},
        "shifted": {"class_type": "ModelSamplingAuraFlow", "inputs": shifted},
        "denoise": {"class_type": "KSampler", "inputs": inputs},
    }


def with_native_encode(ours: dict) -> dict:
    """The same graph with the native text encoder instead of ours."""
    loader = {"clip_name": native_models.TEXT_ENCODER, "type": "ovis"}
    theirs = {**ours, "clip": {"class_type": "CLIPLoader", "inputs": loader}}
    for name in ("positive", "negative"):
        inputs = {"clip": link("clip"), "text": ours[name]["inputs"]["prompt"]}
        theirs[name] = {"class_type": "CLIPTextEncode", "inputs": inputs}
    return theirs


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
