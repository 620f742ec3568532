"""Graphs that an earlier version of the node pack saved, in a real ComfyUI.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout.
"""

from __future__ import annotations

import numpy as np
import pytest

from comfy_server import WIDGETS
from real_comfyui import comfy, graph, latents_of, undecoded

FIXTURES = (comfy,)  # pytest finds it by name

# A saved workflow identifies a node's values by position only. So a new widget is added after
# these, and to this list; none of them may be moved, removed or made required.
PLACES = {
    "OvisWorker": "worker priority",
    "OvisPromptTemplate": "template headline style subject colours",
    "OvisEncode": "prompt max_sequence_length",
    "OvisEmptyLatent": "aspect_ratio megapixels batch_size preset",
    "OvisDenoise": "seed steps cfg denoise shift sampler scheduler cache",
    "OvisDenoiseAdvanced": "add_noise noise_seed steps cfg sampler scheduler shift start_at_step "
    "end_at_step return_with_leftover_noise cache guidance_start guidance_end",
    "OvisDecode": "",
    "OvisVAEEncode": "",
    "OvisContactSheet": "seeds steps cfg columns cell_size sampler scheduler shift",
    "OvisCompare": "layout position gain before_label after_label",
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


@pytest.mark.parametrize("node", LATER)
def test_a_graph_without_later_widgets_gives_the_latents_of_their_defaults(comfy, node):
    old = undecoded(graph())
    if node == "OvisDenoiseAdvanced":
        sockets = ("worker", "positive", "negative", "latent")
        wired = {name: old["denoise"]["inputs"][name] for name in sockets}
        old["denoise"] = {"class_type": node, "inputs": wired | ADVANCED}
    before = latents_of(comfy, comfy.run(old))
    # Another empty latent, for which ComfyUI has no cached result.
    new = {**old, "empty": {**old["empty"], "class_type": "EmptyLatentImage"}}
    new["denoise"] = {**old["denoise"], "inputs": old["denoise"]["inputs"] | LATER[node]}
    assert np.array_equal(latents_of(comfy, comfy.run(new)), before)
