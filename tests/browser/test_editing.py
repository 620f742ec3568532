"""Muting, bypassing, subgraphs and old workflows in ComfyUI's own frontend.

Runs when ``tests/browser/test_browser.py`` does.
"""

from __future__ import annotations

import json

import numpy as np

from comfy_server import ROOT
from test_browser import act, comfy, pixels

FIXTURES = (act, comfy)  # pytest finds them by name
CLEAN = {"missing": [], "red": [], "dialogs": []}
TWINS = [
    ["OvisKSampler", "KSampler"],
    ["OvisKSamplerAdvanced", "KSamplerAdvanced"],
    ["OvisVAEDecode", "VAEDecode"],
    ["OvisVAEEncode", "VAEEncode"],
    ["OvisEncode", "CLIPTextEncode"],
    ["OvisEmptyLatent", "EmptyLatentImage"],
    ["OvisPromptTemplate", "StringConcatenate"],
    ["OvisCompare", "ImageBlend"],
]


def picture(comfy, run: dict) -> np.ndarray:
    (saved,) = [image for image in run["images"] if image["type"] == "output"]
    return pixels(comfy, saved)


def test_muted_and_bypassed_nodes(comfy, act):
    seen = act("modes")
    ids = {name: str(id) for name, id in seen["ids"].items()}
    played = {name: one for name, one in seen.items() if name != "ids"}
    for name, one in played.items():
        assert one["end"] == "execution_success", (name, one["error"])

    def images(name: str) -> list[np.ndarray]:
        return [pixels(comfy, saved) for saved in played[name]["saved"]]

    def fed_by(name: str, node: str, socket: str) -> list:
        return played[name]["prompt"][ids[node]]["inputs"][socket]

    plain, compared = sorted(images("whole"), key=np.size)
    # Only the other branch runs; muted nodes are not queued.
    (alone,) = images("mutedBranch")
    assert np.array_equal(alone, plain)
    assert not {ids["compare"], ids["otherSave"]} & set(played["mutedBranch"]["prompt"])
    # The latent passes a bypassed denoise unchanged, so an empty latent is decoded.
    assert fed_by("bypassedDenoise", "decode", "samples")[0] != ids["denoise"]
    nothing, _ = sorted(images("bypassedDenoise"), key=np.size)
    assert nothing.shape == plain.shape and not np.array_equal(nothing, plain)
    # The first image passes a bypassed comparison unchanged.
    assert fed_by("bypassedCompare", "otherSave", "images") == [ids["decode"], 0]
    passed = images("bypassedCompare")
    assert len(passed) == 2 and all(np.array_equal(image, plain) for image in passed)
    assert compared.size > plain.size


def test_our_nodes_are_muted_and_bypassed_as_their_native_twins(act):
    reached = act("twins", pairs=TWINS)
    for ours, native in TWINS:
        assert reached[ours][0] == ours and reached[native][0] == native
        assert reached[ours][1:] == reached[native][1:], (ours, native)
    assert reached["OvisKSampler"][1:] == ["nothing", "EmptyLatentImage"]
    assert reached["OvisCompare"][1:] == ["nothing", "LoadImage"]


def test_a_subgraph_of_our_nodes_gives_the_same_image_and_comes_back_from_its_png(comfy, act):
    seen = act("subgraph")
    inner = ["OvisEmptyLatent", "OvisEncode", "OvisEncode", "OvisKSampler", "OvisVAEDecode"]
    inner += ["OvisWorker"]
    for kinds in (seen["converted"], seen["reloaded"]):
        assert sorted(kinds, key=str) == sorted(["MarkdownNote", "SaveImage", inner], key=str)
    for run in (seen["flat"], seen["inside"], seen["again"]):
        assert run["end"] == "execution_success", run["error"]
        assert run["progress"] and run["previews"]
        assert np.array_equal(picture(comfy, run), picture(comfy, seen["flat"]))
    assert seen["panels"]["ovis-size-line"] and seen["panels"]["ovis-worker-line"]
    assert seen["asked"] == []
    assert seen["troubles"] == CLEAN


def test_a_workflow_from_before_later_widgets_opens_with_their_defaults_and_runs(comfy, act):
    path = ROOT / "tests" / "older_graphs" / "first_text_to_image.json"
    workflow = json.loads(path.read_text(encoding="utf-8"))
    small = {"megapixels": 0.25, "steps": 4, "seed": 11}
    for node in workflow["nodes"]:
        if node["type"] == "OvisDenoise":
            node["widgets_values"][:3] = [small["seed"], "fixed", small["steps"]]
        if node["type"] == "OvisEmptyLatent":
            node["widgets_values"][1] = small["megapixels"]
    seen = act("older", workflow=workflow)
    assert seen["opened"] == CLEAN and seen["done"] == CLEAN
    denoise, empty = (
        next(seen["widgets"][str(node["id"])] for node in workflow["nodes"] if node["type"] == kind)
        for kind in ("OvisDenoise", "OvisEmptyLatent")
    )
    sampling = {"seed": 11, "steps": 4, "cfg": 5, "denoise": 1, "shift": 0}
    later = {"sampler": "euler", "scheduler": "flux", "cache": "off"}
    assert denoise | sampling | later == denoise
    sizes = {"megapixels": 0.25, "preset": "free", "width": 0, "height": 0}
    assert empty | sizes == empty
    assert seen["run"]["end"] == "execution_success", seen["run"]["error"]
    assert picture(comfy, seen["run"]).std() > 0
