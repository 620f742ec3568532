"""Graphs that an earlier version of the node pack saved, in a real ComfyUI.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from comfy_server import ROOT, WIDGETS
from real_comfyui import comfy, graph, latents_of, undecoded

FIXTURES = (comfy,)  # pytest finds it by name

# A saved workflow identifies a node's values by position only. So a new widget is added after
# these, and to this list; none of them may be moved, removed or made required.
PLACES = {
    "OvisWorker": "worker priority model",
    "OvisLora": "adapter strength text_factor start end blocks hash",
    "OvisPromptTemplate": "template headline style subject colours",
    "OvisEncode": "prompt max_sequence_length",
    "OvisEmptyLatent": "aspect_ratio megapixels batch_size preset width height",
    "OvisKSampler": "seed steps cfg sampler_name scheduler denoise quality shift cache",
    "OvisKSamplerAdvanced": "add_noise noise_seed steps cfg sampler_name scheduler start_at_step "
    "end_at_step return_with_leftover_noise shift cache guidance_start guidance_end",
    "OvisVAEDecode": "",
    "OvisDenoise": "seed steps cfg denoise shift sampler scheduler cache",
    "OvisDenoiseAdvanced": "add_noise noise_seed steps cfg sampler scheduler shift start_at_step "
    "end_at_step return_with_leftover_noise cache guidance_start guidance_end",
    "OvisDecode": "",
    "OvisVAEEncode": "",
    "OvisContactSheet": "seeds steps cfg columns cell_size sampler scheduler shift",
    "OvisCompare": "layout position gain before_label after_label",
}


OLDER = sorted((ROOT / "tests" / "older_graphs").glob("*.json"))
"""Shipped workflows as earlier versions of the pack saved them."""
SMALL = {
    "OvisEmptyLatent": {"megapixels": 0.05},
    "EmptySD3LatentImage": {"width": 256, "height": 256},
    "ImageScaleToTotalPixels": {"megapixels": 0.02},
    "OvisDenoise": {"steps": 2},
    "OvisDenoiseAdvanced": {"steps": 2},
    "OvisContactSheet": {"seeds": "1-2", "steps": "2", "cfg": "1"},
}


def widgets(info: dict, *groups: str) -> list[str]:
    """A node's widgets in the order in which the frontend creates them."""
    return [
        name
        for group in groups
        for name, (kind, *_) in info["input"].get(group, {}).items()
        if isinstance(kind, list) or kind in WIDGETS
    ]


def test_every_widget_keeps_its_place(comfy):
    assert {
        name: " ".join(widgets(info, "required", "optional")) for name, info in comfy.ours.items()
    } == PLACES


# The inputs of the first version's nodes, which are all that its graphs in API format contain.
FIRST = {
    "OvisEmptyLatent": "aspect_ratio megapixels batch_size",
    "OvisDenoise": "seed steps cfg denoise shift",
    "OvisDenoiseAdvanced": "add_noise noise_seed steps cfg sampler scheduler shift start_at_step "
    "end_at_step return_with_leftover_noise",
}


@pytest.mark.parametrize("node", FIRST)
def test_a_widget_that_came_later_is_not_required(comfy, node):
    assert " ".join(widgets(comfy.info[node], "required")) == FIRST[node]


ADVANCED = {
    "add_noise": "enable", "noise_seed": 7, "steps": 2, "cfg": 5.0, "sampler": "euler",
    "scheduler": "flux", "shift": 0.0, "start_at_step": 0, "end_at_step": 10_000,
    "return_with_leftover_noise": "disable",
}  # fmt: skip
LATER = {
    "OvisDenoise": {"sampler": "euler", "scheduler": "flux", "cache": "off"},
    "OvisDenoiseAdvanced": {"cache": "off", "guidance_start": 1.0, "guidance_end": 0.0},
}


@pytest.mark.parametrize("path", OLDER, ids=lambda path: path.stem)
def test_a_workflow_that_an_earlier_version_saved_runs_unchanged(comfy, path):
    api = comfy.api_format(json.loads(path.read_text(encoding="utf-8")), older=True)
    for node in api.values():
        node["inputs"] |= SMALL.get(node["class_type"], {})
    run = comfy.run(api)
    assert run.of("execution_success"), run.error or comfy.tail()
    assert run.files("images")


def first_form(made: dict, node: str) -> dict:
    """The graph with an earlier node instead of the denoise, as API prompts had it."""
    given = made["denoise"]["inputs"]
    old = {name: given[name] for name in ("worker", "positive", "negative")}
    old["latent"] = given["latent_image"]
    if node == "OvisDenoise":
        old |= {name: given[name] for name in FIRST[node].split()}
    else:
        old |= ADVANCED
    return {**made, "denoise": {"class_type": node, "inputs": old}}


@pytest.mark.parametrize("node", LATER)
def test_a_graph_without_later_widgets_gives_the_latents_of_their_defaults(comfy, node):
    old = first_form(undecoded(graph()), node)
    before = latents_of(comfy, comfy.run(old))
    # Another empty latent, for which ComfyUI has no cached result.
    new = {**old, "empty": {**old["empty"], "class_type": "EmptyLatentImage"}}
    new["denoise"] = {**old["denoise"], "inputs": old["denoise"]["inputs"] | LATER[node]}
    assert np.array_equal(latents_of(comfy, comfy.run(new)), before)


def test_an_earlier_node_gives_the_latents_of_its_successor(comfy):
    made = undecoded(graph(denoise__seed=8))
    new = latents_of(comfy, comfy.run(made))
    assert np.array_equal(latents_of(comfy, comfy.run(first_form(made, "OvisDenoise"))), new)


def test_comfyui_knows_what_replaces_an_earlier_node(comfy):
    if comfy.version < (0, 14):
        pytest.skip("SKIPPED: this version of ComfyUI cannot replace nodes.")
    replaced = comfy.get("/node_replacements")
    for old in ("OvisDenoise", "OvisDenoiseAdvanced", "OvisDecode"):
        (told,) = replaced[old]
        assert told["old_widget_ids"] == PLACES[old].split()
        inputs = comfy.info[told["new_node_id"]]["input"]
        new = {*inputs["required"], *inputs.get("optional", {})}
        assert {one["new_id"] for one in told["input_mapping"]} <= new
        theirs = comfy.info[old]["input"]
        there = {*theirs["required"], *theirs.get("optional", {})}
        assert {one["old_id"] for one in told["input_mapping"]} == there
