"""The node pack in a real ComfyUI, with a real worker that the pack itself starts.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout; ``OVIS_COMFYUI_PYTHON`` names
the Python that has its requirements (default: this one).
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

import native_models
from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.wire import WireTensor
from comfy_node.worker.client import WorkerClient
from comfy_server import ROOT, ComfyServer, Run, free_port
from real_worker import binary

COMFYUI = os.environ.get("OVIS_COMFYUI")
SETTINGS = "user/__ovis_worker/ovis_worker.json"
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))

if not COMFYUI:
    SKIPPED = (
        "SKIPPED: the node pack was NOT tried in a real ComfyUI. "
        "Set OVIS_COMFYUI to a ComfyUI checkout to run tests/test_comfyui.py."
    )
    warnings.warn(SKIPPED, stacklevel=1)
    pytest.skip(SKIPPED, allow_module_level=True)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Workers:
    """The worker's binary behind a script that writes down that it was started."""

    def __init__(self, base: Path) -> None:
        self._started = base / "workers.started"
        self._started.touch()
        self.ports = {"local": free_port(), "full": free_port()}
        self.binary = base / "ovis-worker"
        real, started = (shlex.quote(str(path)) for path in (binary(), self._started))
        self.binary.write_text(f'#!/bin/sh\necho $$ "$@" >> {started}\nexec {real} "$@"\n')
        self.binary.chmod(self.binary.stat().st_mode | stat.S_IXUSR)

    def gone(self) -> list[str]:
        """The labels of workers that were started and do not answer."""
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


@pytest.fixture(scope="module")
def comfy(tiny, tmp_path_factory):
    """ComfyUI with two workers, which the pack starts when they are needed.

    `local` has the tiny checkpoint; `full` has ComfyUI's own models folder, with
    what the native nodes can load too.
    """
    base = tmp_path_factory.mktemp("comfyui")
    native_models.write(base / "models")
    workers = Workers(base)
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
        server = ComfyServer(Path(COMFYUI), base, environ, packs)
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
            "OvisDenoise",
            {
                "worker": link("worker"),
                "positive": link("positive"),
                "negative": link("negative"),
                "latent": link("empty"),
                "seed": 7,
                "steps": 2,
                "cfg": 5.0,
                "denoise": 1.0,
                "shift": 0.0,
            },
        ),
        "decode": ("OvisDecode", {"worker": link("worker"), "latent": link("denoise")}),
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
    """The graph without its image, whose making is most of a small graph's work."""
    return {name: node for name, node in graph.items() if name not in ("decode", "image")}


def latents_of(comfy: ComfyServer, run: Run) -> np.ndarray:
    assert run.of("execution_success"), run.error or comfy.tail()
    (name,) = run.files("latents")
    return load_file(comfy.base / "output" / name)["latent_tensor"]


def test_every_node_is_there_with_its_sliders(comfy):
    denoise = comfy.info["OvisDenoise"]["input"]["required"]
    assert denoise["steps"][1]["display"] == "slider"
    assert denoise["cfg"][1]["display"] == "slider"
    assert denoise["seed"][1]["control_after_generate"] is True
    ratio = comfy.info["OvisEmptyLatent"]["input"]["required"]["aspect_ratio"][1]
    assert (ratio["min"], ratio["max"], ratio["display"]) == (0.25, 4.0, "slider")
    for node in ("OvisWorker", "OvisEncode", "OvisDecode", "OvisVAEEncode"):
        assert comfy.info[node]["category"] == "ovis"


def test_every_node_has_its_help_page(comfy):
    for node in comfy.ours:
        page = comfy.get_bytes(f"/extensions/ovis-worker/docs/{node}/en.md")
        assert page.startswith(b"# Ovis")


def test_the_template_browser_shows_the_workflows_with_thumbnails(comfy):
    names = comfy.get("/workflow_templates")["ovis-worker"]
    assert sorted(names) == [path.stem for path in WORKFLOWS]
    for name in names:
        jpg = comfy.get_bytes(f"/api/workflow_templates/ovis-worker/{name}.jpg")
        assert jpg[:2] == b"\xff\xd8"


SMALL = {
    "OvisEmptyLatent": {"megapixels": 0.25},
    "EmptySD3LatentImage": {"width": 256, "height": 256},
    "ImageScaleToTotalPixels": {"megapixels": 0.02},
    "OvisDenoise": {"steps": 3},
    "OvisDenoiseAdvanced": {"steps": 3},
    "OvisContactSheet": {"seeds": "1-2", "steps": "3", "cfg": "1"},
}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_shipped_workflow_runs(comfy, path):
    api = comfy.api_format(json.loads(path.read_text(encoding="utf-8")))
    for node in api.values():
        smaller = SMALL.get(node["class_type"], {})
        assert set(smaller) <= set(node["inputs"])
        node["inputs"] |= smaller
    run = comfy.run(api)
    assert run.of("execution_success"), run.error or comfy.tail()
    (name,) = run.files("images")
    with Image.open(comfy.base / "output" / name) as image:
        if "contact_sheet" not in path.stem:
            assert image.size[0] % 16 == 0 and image.size[1] % 16 == 0
        assert np.asarray(image).std() > 0
    denoisers = {id for id, node in api.items() if "steps" in SMALL.get(node["class_type"], {})}
    for id in denoisers:
        shown = steps_shown(run, id)
        total = 6 if api[id]["class_type"] == "OvisContactSheet" else 3
        assert shown == sorted(set(shown)) and shown[-1] == (total, total)


def steps_shown(run: Run, node: str | None = None) -> list[tuple[float, float]]:
    """Where the progress bar was, of that node or of all, and of how many."""
    shown = [p for p in run.of("progress") if node in (None, p["node"])]
    return [(float(p["value"]), float(p["max"])) for p in shown]


def test_the_progress_bar_moves_with_every_step(comfy):
    # Newer ComfyUI leaves out steps within a tenth of a second of another.
    slow = graph(empty__width=512, empty__height=512, empty__batch_size=4, denoise__steps=3)
    assert steps_shown(comfy.run(undecoded(slow))) == [(1, 3), (2, 3), (3, 3)]


def test_an_interrupt_cancels_on_the_worker(comfy):
    interrupt = {"sent": False}

    def after_the_first_step(message: dict) -> str | None:
        if message["type"] == "progress" and not interrupt["sent"]:
            interrupt["sent"] = True
            return "/interrupt"
        return None

    long = graph(denoise__steps=100, denoise__seed=1, empty__width=256, empty__height=256)
    run = comfy.run(long, after_the_first_step)
    assert run.of("execution_interrupted")
    assert steps_shown(run)[-1] < (90, 100)
    # The worker is free at once.
    assert comfy.run(graph(denoise__seed=2)).of("execution_success")


def test_an_interrupt_while_the_worker_is_busy_with_others_ends_the_wait(comfy):
    assert comfy.run(graph(denoise__seed=3)).of("execution_success")
    other = WorkerClient(WorkerConfig(url=f"ws://127.0.0.1:{comfy.worker_port}/ws"))
    encoded = other.submit(wire.EncodeRequest(["another person"], 32)).result(60)
    conditioning = encoded.tensors["conditioning"]
    conditioning.header.name = "positive"
    latent = WireTensor(
        wire.TensorHeader("latent", wire.DType.F32, [1, 16, 64, 64]), bytes(1 << 18)
    )
    request = wire.DenoiseRequest(0, 1000, 1.0, "euler", wire.AutoSchedule())
    long_job = other.submit(request, [conditioning, latent])
    interrupt = {"sent": False}

    def once_the_denoise_is_asked_for(message: dict) -> str | None:
        if message["type"] == "executing" and message["data"]["node"] == "denoise":
            interrupt["sent"] = True
            return "/interrupt"
        return None

    try:
        waiting = graph(denoise__seed=4, denoise__steps=100, empty__width=256, empty__height=256)
        run = comfy.run(waiting, once_the_denoise_is_asked_for)
        assert interrupt["sent"] and run.of("execution_interrupted"), run.error
        assert not long_job.done()
    finally:
        long_job.cancel()
        other.close()


def test_the_same_seed_gives_the_same_latents_and_another_seed_others(comfy):
    first = latents_of(comfy, comfy.run(graph(denoise__seed=11)))
    again = latents_of(comfy, comfy.run(graph(denoise__seed=11, latents__filename_prefix="again")))
    other = latents_of(comfy, comfy.run(graph(denoise__seed=12)))
    assert first.shape == (1, 16, 12, 8)
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_an_empty_latent_of_four_channels_is_as_good(comfy):
    wide = latents_of(comfy, comfy.run(graph(denoise__seed=21)))
    four = ("EmptyLatentImage", {"width": 64, "height": 96, "batch_size": 1})
    narrow = latents_of(comfy, comfy.run(graph(denoise__seed=21, empty=four)))
    assert np.array_equal(wide, narrow)


def test_batch_index_picks_the_draw_as_in_comfyui(comfy):
    pair = latents_of(comfy, comfy.run(graph(denoise__seed=31, empty__batch_size=2)))
    second = graph(
        denoise__seed=31,
        denoise__latent=link("second"),
        empty__batch_size=2,
        second=("LatentFromBatch", {"samples": link("empty"), "batch_index": 1, "length": 1}),
    )
    alone = latents_of(comfy, comfy.run(second))
    # ComfyUI draws entry by entry with batch_index and all at once without; for
    # entries of a multiple of 16 elements PyTorch's values are the same.
    assert np.allclose(pair[1:], alone, rtol=0, atol=1e-4)


def test_a_noise_mask_keeps_what_it_does_not_cover(comfy):
    masked = graph(
        denoise__seed=41,
        denoise__latent=link("masked"),
        picture=("LoadImage", {"image": "example.png"}),
        scaled=(
            "ImageScale",
            {
                "image": link("picture"),
                "upscale_method": "bilinear",
                "width": 64,
                "height": 96,
                "crop": "disabled",
            },
        ),
        start=("OvisVAEEncode", {"worker": link("worker"), "image": link("scaled")}),
        left=("SolidMask", {"value": 0.0, "width": 64, "height": 96}),
        right=("SolidMask", {"value": 1.0, "width": 32, "height": 96}),
        mask=(
            "MaskComposite",
            {
                "destination": link("left"),
                "source": link("right"),
                "x": 32,
                "y": 0,
                "operation": "add",
            },
        ),
        masked=("SetLatentNoiseMask", {"samples": link("start"), "mask": link("mask")}),
    )
    after = latents_of(comfy, comfy.run(masked))
    masked["latents"]["inputs"]["samples"] = link("start")
    before = latents_of(comfy, comfy.run(masked))
    assert np.allclose(after[..., :4], before[..., :4], rtol=0, atol=1e-4)
    assert not np.allclose(after[..., 4:], before[..., 4:], rtol=0, atol=1e-2)


def pixels_of(comfy: ComfyServer, run: Run) -> np.ndarray:
    assert run.of("execution_success"), run.error or comfy.tail()
    (name,) = run.files("images")
    with Image.open(comfy.base / "output" / name) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_the_native_decode_gives_the_same_image(comfy):
    loader = ("VAELoader", {"vae_name": native_models.VAE})
    native = ("VAEDecode", {"samples": link("denoise"), "vae": link("vae")})
    ours = pixels_of(comfy, comfy.run(graph(worker__worker="full", denoise__seed=81)))
    changes = {"worker__worker": "full", "denoise__seed": 81, "vae": loader, "decode": native}
    theirs = pixels_of(comfy, comfy.run(graph(**changes)))
    assert ours.std() > 1
    assert np.mean(abs(ours - theirs) <= 1) >= 0.999


def test_the_native_encode_gives_the_same_latents(comfy):
    size = {"width": 64, "height": 96, "upscale_method": "bilinear", "crop": "disabled"}
    common = {
        "worker__worker": "full",
        "denoise__denoise": 0.0,  # gives back what the encoder made
        "denoise__latent": link("start"),
        "picture": ("LoadImage", {"image": "example.png"}),
        "scaled": ("ImageScale", {"image": link("picture"), **size}),
    }
    ours = ("OvisVAEEncode", {"worker": link("worker"), "image": link("scaled")})
    theirs = ("VAEEncode", {"pixels": link("scaled"), "vae": link("vae")})
    loader = ("VAELoader", {"vae_name": native_models.VAE})
    ours = latents_of(comfy, comfy.run(graph(**common, start=ours)))
    theirs = latents_of(comfy, comfy.run(graph(**common, start=theirs, vae=loader)))
    assert np.linalg.norm(ours - theirs) <= 1e-3 * np.linalg.norm(theirs)


def test_cfg_one_needs_no_negative_and_more_does(comfy):
    alone = graph(denoise__cfg=1.0, denoise__seed=51)
    del alone["denoise"]["inputs"]["negative"]
    assert comfy.run(alone).of("execution_success")
    alone["denoise"]["inputs"]["cfg"] = 2.0
    assert "needs a negative conditioning" in comfy.run(alone).error


def test_denoise_zero_gives_the_latent_back(comfy):
    assert not latents_of(comfy, comfy.run(graph(denoise__denoise=0.0))).any()


def test_a_cut_prompt_is_reported_on_the_node(comfy):
    run = comfy.run(graph(positive__prompt="many words " * 60, denoise__seed=61))
    assert run.of("execution_success"), run.error
    assert any("tokens were cut to fit 32" in text for text in run.texts), run.texts


def test_an_error_on_the_worker_appears_as_its_sentence(comfy):
    odd = ("EmptyLatentImage", {"width": 72, "height": 96, "batch_size": 1})
    run = comfy.run(graph(empty=odd, denoise__seed=71))
    assert "multiple" in run.error
    assert run.of("execution_error")[0]["node_type"] == "OvisDenoise"


def test_an_unknown_label_says_where_to_describe_it(comfy):
    run = comfy.run(graph(worker__worker="studio"))
    assert "called `studio`, which is not set up here" in run.error
    assert "ovis_worker.json" in run.error
    # The frontend shows this before the sentence, and has room for little.
    assert run.of("execution_error")[0]["exception_type"] == "ovis_worker.WorkerError"


def test_a_conditioning_with_an_area_is_refused(comfy):
    area = {"width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    limited = graph(
        denoise__positive=link("limited"),
        limited=("ConditioningSetArea", {"conditioning": link("positive"), **area}),
    )
    assert "asks for area" in comfy.run(limited).error


def test_combined_conditionings_are_refused(comfy):
    both = {"conditioning_1": link("positive"), "conditioning_2": link("negative")}
    combined = graph(denoise__positive=link("both"), both=("ConditioningCombine", both))
    assert "has 2 entries" in comfy.run(combined).error


# Beside ComfyUI's own Ovis-Image: euler, simple, ModelSamplingAuraFlow


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
    """The same graph with the native sampler in the place of our denoise."""
    unet = {"unet_name": native_models.TRANSFORMER, "weight_dtype": "default"}
    inputs = dict(ours["denoise"]["inputs"])
    shift, latent = inputs.pop("shift"), inputs.pop("latent")
    del inputs["worker"]
    inputs |= {"model": link("shifted"), "latent_image": latent}
    inputs["sampler_name"] = inputs.pop("sampler", "euler")
    inputs.setdefault("scheduler", "simple")
    shifted = {"model": link("unet"), "shift": shift}
    return {
        **ours,
        "unet": {"class_type": "UNETLoader", "inputs": unet},
        "shifted": {"class_type": "ModelSamplingAuraFlow", "inputs": shifted},
        "denoise": {"class_type": "KSampler", "inputs": inputs},
    }


def with_native_encode(ours: dict) -> dict:
    """The same graph with the native text encoder in the place of ours."""
    loader = {"clip_name": native_models.TEXT_ENCODER, "type": "ovis"}
    theirs = {**ours, "clip": {"class_type": "CLIPLoader", "inputs": loader}}
    for name in ("positive", "negative"):
        inputs = {"clip": link("clip"), "text": ours[name]["inputs"]["prompt"]}
        theirs[name] = {"class_type": "CLIPTextEncode", "inputs": inputs}
    return theirs


CLOSE = 1e-3


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


LONG = "A hand-painted sign reads \u201cBienvenue \u00e0 la f\u00eate!\u201d, 7 red balloons. " * 12

LATENTS = {
    "empty": {},
    "empty in four channels": {
        "empty": ("EmptyLatentImage", {"width": 64, "height": 96, "batch_size": 1})
    },
    "empty by aspect ratio": {
        "empty": ("OvisEmptyLatent", {"aspect_ratio": 4.0, "megapixels": 0.25, "batch_size": 1}),
        "denoise__steps": 1,
    },
    "empty of another model": {"empty": ("EmptyLatentOfAnotherModel", {"width": 64, "height": 96})},
    "batch": {"empty__batch_size": 3},
    "batch index": {
        "empty__batch_size": 4,
        "picked": ("LatentFromBatch", {"samples": link("empty"), "batch_index": 2, "length": 2}),
        "denoise__latent": link("picked"),
    },
    "without guidance": {"denoise__cfg": 1.0},
    # `simple` rounds to a thousandth, so these are not evenly spaced, and these
    # are more than there are.
    "seven steps": {"denoise__steps": 7, "denoise__cfg": 1.0},
    "two of two thousand steps": {"denoise__steps": 2, "denoise__denoise": 0.001},
}


@pytest.mark.parametrize("changes", LATENTS.values(), ids=LATENTS.keys())
def test_the_native_sampler_gives_the_same_latents(native, changes):
    ours = undecoded(both(denoise__seed=91, **changes))
    theirs = latents_of(native, native.run(with_native_denoise(ours)))
    assert theirs.std() > 0.01
    assert distance(latents_of(native, native.run(ours)), theirs) <= CLOSE


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("steps, denoise", [(4, 0.5), (3, 0.6), (8, 1.0)])
def test_the_native_sampler_gives_the_same_image_to_image(native, masked, steps, denoise):
    scale = {"image": link("picture"), "upscale_method": "bilinear", "crop": "disabled"}
    soft = {"mask": link("even"), "left": 1, "top": 3, "right": 2, "bottom": 0}
    ours = both(
        picture=("LoadImage", {"image": "example.png"}),
        scaled=("ImageScale", {**scale, "width": 64, "height": 96}),
        start=("OvisVAEEncode", {"worker": link("worker"), "image": link("scaled")}),
        # Of another size and shape than the latent: resized as the native sampler does it.
        even=("SolidMask", {"value": 0.7, "width": 20, "height": 20}),
        mask=("FeatherMask", soft),
        masked=("SetLatentNoiseMask", {"samples": link("start"), "mask": link("mask")}),
        denoise__latent=link("masked" if masked else "start"),
        denoise__seed=92,
        denoise__steps=steps,
        denoise__denoise=denoise,
    )
    ours = undecoded(ours)
    theirs = latents_of(native, native.run(with_native_denoise(ours)))
    assert distance(latents_of(native, native.run(ours)), theirs) <= CLOSE


@pytest.mark.parametrize("prompt", ["a red square", "", LONG], ids=["short", "empty", "long"])
def test_the_native_text_encoder_feeds_our_denoise(native, prompt):
    long = 1024 if prompt == LONG else 256  # the native one cuts nothing
    ours = both(denoise__seed=93, positive__prompt=prompt, positive__max_sequence_length=long)
    ours = undecoded(ours)
    theirs = latents_of(native, native.run(with_native_encode(ours)))
    assert distance(latents_of(native, native.run(ours)), theirs) <= CLOSE
    ours["positive"]["inputs"]["prompt"] += "another"
    # What is measured shows even one more word.
    assert distance(latents_of(native, native.run(ours)), theirs) > 3 * CLOSE


def test_all_native_nodes_give_our_image(native):
    ours = both(denoise__seed=94, negative__prompt="blurry")
    theirs = with_native_denoise(with_native_encode(ours))
    vae = {"vae_name": native_models.VAE}
    theirs["vae"] = {"class_type": "VAELoader", "inputs": vae}
    decode = {"samples": link("denoise"), "vae": link("vae")}
    theirs["decode"] = {"class_type": "VAEDecode", "inputs": decode}
    del theirs["worker"]
    ours, theirs = (pixels_of(native, native.run(graph)) for graph in (ours, theirs))
    assert ours.std() > 1
    assert np.mean(abs(ours - theirs) <= 1) >= 0.999
