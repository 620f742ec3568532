"""The node pack in a real ComfyUI, with a real worker that the pack itself starts.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout (see ``real_comfyui.py``).
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.wire import WireTensor
from comfy_node.worker.client import WorkerClient
from real_comfyui import (
    WORKFLOWS,
    comfy,
    graph,
    latents_of,
    link,
    steps_shown,
    undecoded,
)

FIXTURES = (comfy,)  # pytest finds it by name


def test_every_node_is_there_with_its_sliders(comfy):
    denoise = comfy.info["OvisKSampler"]["input"]["required"]
    assert denoise["steps"][1]["display"] == "slider"
    assert (denoise["steps"][1]["max"], denoise["cfg"][1]["max"]) == (200, 100)
    assert denoise["seed"][1]["control_after_generate"] is True
    ratio = comfy.info["OvisEmptyLatent"]["input"]["required"]["aspect_ratio"][1]
    assert (ratio["min"], ratio["max"], ratio["display"]) == (0.25, 4.0, "slider")
    for node in ("OvisWorker", "OvisEncode", "OvisVAEDecode", "OvisVAEEncode"):
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
    "OvisKSampler": {"steps": 3},
    "OvisKSamplerAdvanced": {"steps": 3},
    "OvisContactSheet": {"seeds": "1-2", "steps": "3", "cfg": "1"},
    # The adapter of that name fits the tiny model, and so is another file.
    "OvisLora": {"hash": ""},
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


def test_the_progress_bar_moves_with_every_step(comfy):
    # Newer versions of ComfyUI skip steps that follow another within a tenth of a second.
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
    # The worker is available again at once.
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
        denoise__latent_image=link("second"),
        empty__batch_size=2,
        second=("LatentFromBatch", {"samples": link("empty"), "batch_index": 1, "length": 1}),
    )
    alone = latents_of(comfy, comfy.run(second))
    # With batch_index ComfyUI draws the noise entry by entry, without it all at once. If the number
    # of elements per entry is a multiple of 16, PyTorch's values are the same.
    assert np.allclose(pair[1:], alone, rtol=0, atol=1e-4)


def test_a_noise_mask_keeps_what_it_does_not_cover(comfy):
    masked = graph(
        denoise__seed=41,
        denoise__latent_image=link("masked"),
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
    assert run.of("execution_error")[0]["node_type"] == "OvisKSampler"


def test_an_unknown_label_says_where_to_describe_it(comfy):
    run = comfy.run(graph(worker__worker="studio"))
    assert "called `studio`, which is not set up here" in run.error
    assert "ovis_worker.json" in run.error
    # The frontend shows this before the sentence, so it must be short.
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
