"""The designer's nodes and the pack's routes in a real ComfyUI.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout.
"""

from __future__ import annotations

import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from comfy_node.pictures import sizes
from real_comfyui import comfy, graph, latents_of, link, pixels_of, undecoded

FIXTURES = (comfy,)  # pytest finds it by name


def sheet(**inputs: object) -> dict:
    """A graph whose image is a contact sheet."""
    made = graph()
    given = {name: made["denoise"]["inputs"][name] for name in ("worker", "positive", "negative")}
    lists = {"seeds": "7, 8", "steps": "2", "cfg": "1, 5", "columns": "seeds", "cell_size": 0}
    named = {"sampler": "euler", "scheduler": "flux", "shift": 0.0, "latent": link("empty")}
    made["sheet"] = {"class_type": "OvisContactSheet", "inputs": given | lists | named | inputs}
    made["image"]["inputs"] = {"images": link("sheet", 1), "filename_prefix": "cells"}
    made["page"] = {
        "class_type": "SaveImage",
        "inputs": {"images": link("sheet", 0), "filename_prefix": "page"},
    }
    for name in ("denoise", "decode", "latents"):
        del made[name]
    return made


def images_of(comfy, run) -> list[np.ndarray]:
    assert run.of("execution_success"), run.error or comfy.tail()
    images = []
    for name in sorted(run.files("images")):
        with Image.open(comfy.base / "output" / name) as image:
            images.append(np.asarray(image.convert("RGB")).astype(int))
    return images


def test_a_preset_wins_over_the_slider_and_a_graph_without_one_still_runs(comfy):
    old = {"aspect_ratio": 1.0, "megapixels": 0.25, "batch_size": 1}
    for inputs, ratio in ((old, 1.0), ({**old, "preset": "social story 9:16"}, 9 / 16)):
        empty = undecoded(graph(empty=("OvisEmptyLatent", inputs), denoise__denoise=0.0))
        width, height = sizes.size_of(ratio, 0.25)
        assert latents_of(comfy, comfy.run(empty)).shape[2:] == (height // 8, width // 8)


def test_a_template_feeds_the_encode(comfy):
    boxes = {"headline": "HI", "style": "ink", "subject": "a fair", "colours": ""}
    made = graph(
        template=("OvisPromptTemplate", {"template": "poster", **boxes}),
        positive__prompt=link("template"),
        positive__max_sequence_length=256,
        negative__prompt=link("template", 1),
        denoise__seed=101,
    )
    templated = pixels_of(comfy, comfy.run(made))
    written = comfy.post("/ovis-worker/compose", {"template": "poster", "boxes": boxes})
    made["positive"]["inputs"]["prompt"] = written["prompt"]
    made["denoise"]["inputs"]["seed"] = 101
    assert np.array_equal(templated, pixels_of(comfy, comfy.run(made)))


def test_a_colleagues_template_that_is_not_here_says_what_to_do(comfy):
    boxes = {"headline": "", "style": "", "subject": "", "colours": ""}
    made = graph(
        template=("OvisPromptTemplate", {"template": "team", **boxes}),
        positive__prompt=link("template"),
    )
    with pytest.raises(AssertionError, match=r"Put team\.json into the folder ovis_templates"):
        comfy.run(made)


def test_a_users_template_is_offered_and_a_bad_one_named_on_the_node(comfy):
    folder = comfy.base / "user" / "default" / "ovis_templates"
    folder.mkdir(exist_ok=True)
    (folder / "house.json").write_text('{"prompt": "Sign: {headline}"}')
    (folder / "odd.json").write_text("[]")
    try:
        info = comfy.get("/object_info/OvisPromptTemplate")["OvisPromptTemplate"]
        kind, settings = info["input"]["required"]["template"]
        offered = settings["options"] if kind == "COMBO" else kind
        assert "house" in offered and "odd" not in offered and "poster" in offered
        boxes = {"headline": "A", "style": "", "subject": "", "colours": ""}
        made = graph(
            template=("OvisPromptTemplate", {"template": "house", **boxes}),
            positive__prompt=link("template"),
            denoise__seed=102,
        )
        run = comfy.run(made)
        assert run.of("execution_success"), run.error
        assert any("`odd`" in text and "is not a JSON object" in text for text in run.texts)
    finally:
        (folder / "house.json").unlink()
        (folder / "odd.json").unlink()


def test_advice_is_in_what_the_node_reports(comfy):
    run = comfy.run(graph(positive__prompt='a "$5', denoise__seed=103))
    reported = [data["output"] for data in run.of("executed") if data["node"] == "positive"]
    sentences = reported[0]["ovis_advice"]
    assert len(sentences) == 2 and any("full-width" in one for one in sentences)


def test_a_contact_sheet_holds_the_images_that_single_runs_make(comfy):
    run = comfy.run(sheet())
    cells_and_page = images_of(comfy, run)
    cells, page = cells_and_page[:4], cells_and_page[4]
    settings = [(7, 1.0), (8, 1.0), (7, 5.0), (8, 5.0)]
    for cell, (seed, cfg) in zip(cells, settings, strict=True):
        alone = pixels_of(comfy, comfy.run(graph(denoise__seed=seed, denoise__cfg=cfg)))
        assert np.array_equal(cell, alone)
    assert page.shape[0] > 2 * 96 and page.shape[1] > 2 * 64
    shown = [(data["value"], data["max"]) for data in run.of("progress")]
    assert shown[-1][1] == 8 and shown == sorted(shown)


def test_a_contact_sheet_takes_the_draws_that_the_latent_names(comfy):
    picked = ("LatentFromBatch", {"samples": link("empty"), "batch_index": 1, "length": 1})
    common = {"empty__batch_size": 2, "picked": picked}
    alone = graph(**common, denoise__seed=7, denoise__latent_image=link("picked"))
    listed = sheet(seeds="7", cfg="5", latent=link("picked"))
    listed["empty"]["inputs"]["batch_size"] = 2
    listed["picked"] = alone["picked"]
    cell, _ = images_of(comfy, comfy.run(listed))
    assert np.array_equal(cell, pixels_of(comfy, comfy.run(alone)))


def test_an_interrupt_ends_a_contact_sheet(comfy):
    sent = []

    def in_the_second_cell(message: dict) -> str | None:
        if message["type"] == "progress" and message["data"]["value"] > 22 and not sent:
            sent.append(message["data"]["value"])
            return "/interrupt"
        return None

    run = comfy.run(sheet(seeds="0-9", steps="20", cfg="1"), in_the_second_cell)
    assert run.of("execution_interrupted"), run.error
    assert sent[0] < 100 and run.of("progress")[-1]["value"] < 180
    assert comfy.run(graph(denoise__seed=104)).of("execution_success")


def test_a_list_that_is_wrong_is_refused_before_anything_runs(comfy):
    with pytest.raises(AssertionError, match="the maximum is 64"):
        comfy.run(sheet(seeds="0-99"))


def test_before_and_after_are_compared_also_in_different_sizes(comfy):
    picture = ("LoadImage", {"image": "example.png"})
    scale = {"upscale_method": "bilinear", "width": 64, "height": 64, "crop": "disabled"}
    compared = {
        "layout": "side by side",
        "position": 0.5,
        "gain": 1.0,
        "before_label": "",
        "after_label": "",
    }
    made = {
        "picture": picture,
        "small": ("ImageScale", {"image": link("picture"), **scale}),
        "compare": (
            "OvisCompare",
            {"before": link("small"), "after": link("picture"), **compared},
        ),
        "image": ("SaveImage", {"images": link("compare"), "filename_prefix": "compared"}),
    }
    made = {name: {"class_type": kind, "inputs": ins} for name, (kind, ins) in made.items()}
    run = comfy.run(made)
    (page,) = images_of(comfy, run)
    assert page.shape[0] == 64 and 128 < page.shape[1] < 150
    shown = [data["output"] for data in run.of("executed") if data["node"] == "compare"]
    for file in shown[0]["ovis_compare"]:
        path = f"/view?filename={file['filename']}&type=temp&subfolder={file['subfolder']}"
        assert comfy.get_bytes(path).startswith(b"\x89PNG")


def test_the_pack_says_how_its_workers_are(comfy):
    assert comfy.run(graph(denoise__seed=105)).of("execution_success")
    labels = [worker["label"] for worker in comfy.get("/ovis-worker/workers")["workers"]]
    assert labels == ["local", "full"]
    status = comfy.get("/ovis-worker/workers/local/status")
    assert (status["state"], status["device"], status["can_stop"]) == ("connected", "cpu", True)


def test_another_origin_starts_nothing(comfy):
    request = urllib.request.Request(
        f"http://127.0.0.1:{comfy.port}/ovis-worker/workers/local/stop",
        data=b"{}",
        headers={"Content-Type": "application/json", "Origin": "http://evil.example"},
    )
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=10)
    assert comfy.get("/ovis-worker/workers/local/status")["state"] in ("connected", "ready")


def test_every_widget_has_a_tooltip(comfy):
    bare = [
        f"{node}.{name}"
        for node, info in comfy.ours.items()
        for group in ("required", "optional")
        for name, (kind, *settings) in info["input"].get(group, {}).items()
        if kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO") or isinstance(kind, list)
        if not (settings and settings[0].get("tooltip"))
    ]
    assert bare == []


def test_the_english_texts_are_those_of_the_nodes_and_comfyui_serves_both_languages(comfy):
    served = comfy.get("/i18n")
    for node, info in comfy.ours.items():
        english = served["en"]["nodeDefs"][node]
        assert (english["display_name"], english["description"]) == (
            info["display_name"],
            info["description"],
        )
        widgets = {
            name: settings[0].get("tooltip") if settings else None
            for group in ("required", "optional")
            for name, (_, *settings) in info["input"].get(group, {}).items()
        }
        told = {name: text.get("tooltip") for name, text in english["inputs"].items()}
        assert told == widgets
        assert [text["name"] for text in english["outputs"].values()] == info["output_name"]
        assert node in served["zh"]["nodeDefs"]
