"""Workflows from others in ComfyUI's own frontend: the pack's scripts change nothing in them.

Runs when ``tests/browser/test_browser.py`` does. ``tests/test_foreign_graphs.py`` calls every hook
of every script without a browser.
"""

from __future__ import annotations

import json

import pytest

from test_browser import act, comfy

FIXTURES = (act, comfy)  # pytest finds them by name

# Titles of our nodes in one of the languages, or titles that a workflow of ours once had.
TITLES = ["Prompt", "提示词", "The picture", "原图", "Fill in the boxes", "填写各栏", "Mine"]


def node(id: int, kind: str, title: str | None = None, values: list = (), **more: object) -> dict:
    row, column = divmod(id, 5)
    made = {
        "id": id, "type": kind, "pos": [column * 450, row * 450], "size": [400, 300], "flags": {},
        "order": id, "mode": 0, "inputs": [], "outputs": [],
        "properties": {"Node name for S&R": kind}, "widgets_values": list(values),
    }  # fmt: skip
    return made | ({} if title is None else {"title": title}) | more


def workflow(nodes: list[dict], **more: object) -> dict:
    last = max(node["id"] for node in nodes)
    groups = [
        {"id": id, "title": title, "bounding": [0, 3000 + id * 300, 400, 200], "color": "#A88",
         "font_size": 24, "flags": {}}
        for id, title in enumerate(TITLES, 1)
    ]  # fmt: skip
    return {
        "id": "0c7a4b1e-6d6e-4a53-a70e-4d5a3c9e4a11", "revision": 0, "last_node_id": last,
        "last_link_id": 0, "nodes": nodes, "links": [], "groups": groups, "config": {},
        "extra": {"ds": {"scale": 0.5, "offset": [100, 100]}}, "version": 0.4, **more,
    }  # fmt: skip


def titled() -> dict:
    """Each title on a native node, and on a node whose type has a name that begins as ours do."""
    nodes = []
    for title in [None, *TITLES]:
        nodes.append(node(len(nodes) + 1, "CLIPTextEncode", title, ["Prompt"]))
        nodes.append(node(len(nodes) + 1, "OvisU1ModelLoader", title, ["free"]))
        nodes.append(node(len(nodes) + 1, "Note", title, ["提示词"], color="#432", bgcolor="#653"))
        nodes.append(node(len(nodes) + 1, "OvisOfNobody", title, ["poster"]))
    return workflow(nodes)


def with_subgraph() -> dict:
    """A subgraph whose name, inputs and inner nodes have the names of ours."""
    kind = "1b671a64-40d5-491e-99b0-da01ff1f3341"
    inner = {
        "id": kind, "version": 1, "state": {"lastGroupId": 0, "lastNodeId": 2, "lastLinkId": 1,
        "lastRerouteId": 0}, "revision": 0, "config": {}, "name": "Prompt",
        "inputNode": {"id": -10, "bounding": [0, 0, 120, 60]},
        "outputNode": {"id": -20, "bounding": [900, 0, 120, 60]},
        "inputs": [], "widgets": [],
        "outputs": [{"id": "5a1e9d3b-7b36-4b6e-9a7c-8c1c7f9d2b10", "name": "提示词",
                     "type": "LATENT", "linkIds": [1], "localized_name": "提示词",
                     "label": "Prompt", "pos": [920, 20]}],
        "nodes": [
            node(1, "EmptyLatentImage", "Prompt", [512, 512, 1],
                 outputs=[{"name": "LATENT", "type": "LATENT", "links": [1], "label": "提示词"}]),
            node(2, "OvisU1ModelLoader", "提示词", ["free"]),
        ],
        "groups": [{"id": 1, "title": "提示词", "bounding": [0, 500, 400, 200], "color": "#A88",
                    "font_size": 24, "flags": {}}],
        "links": [{"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": -20,
                   "target_slot": 0, "type": "LATENT"}],
        "extra": {},
    }  # fmt: skip
    outer = node(1, kind, "提示词", outputs=[{"name": "提示词", "type": "LATENT", "links": [],
                                            "label": "Prompt"}])  # fmt: skip
    return workflow([outer], definitions={"subgraphs": [inner]})


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_a_foreign_workflow_is_saved_as_it_would_be_without_the_pack(act, locale):
    seen = act("foreign", locale=locale, workflows=[titled(), with_subgraph()])
    assert seen["hooks"] == [], "the scripts ran where they should not have"
    assert seen["beside"] == seen["without"]
    plain, nested = map(json.loads, seen["beside"])
    said = {(one["type"], one.get("title")) for one in plain["nodes"]}
    assert {(kind, title) for kind in ("CLIPTextEncode", "Note") for title in TITLES} <= said
    assert [group["title"] for group in plain["groups"]] == TITLES
    (inner,) = nested["definitions"]["subgraphs"]
    assert inner["name"] == "Prompt" and inner["groups"][0]["title"] == "提示词"
    assert [one["title"] for one in inner["nodes"]] == ["Prompt", "提示词"]


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_titles_and_colours_that_a_user_gave_to_our_nodes_are_kept(act, locale):
    words = ["a fox", 256]
    nodes = [node(id, "OvisEncode", title, words) for id, title in enumerate(TITLES, 1)]
    first = len(nodes) + 1
    nodes += [
        node(first, "OvisEncode", "Mine", words, color="#322", bgcolor="#533"),
        node(first + 1, "OvisEncode", "Mine", words,
             properties={"Node name for S&R": "OvisEncode", "ovis_title": "Prompt"}),
        node(first + 2, "OvisEncode", "Prompt", words,
             properties={"Node name for S&R": "OvisEncode", "ovis_title": "Prompt"}),
    ]  # fmt: skip
    seen = {one["id"]: one for one in act("kept", locale=locale, workflow=workflow(nodes))}
    assert [seen[id]["title"] for id in range(1, first)] == TITLES
    assert all("color" not in seen[id] for id in range(1, first))
    assert (seen[first]["color"], seen[first]["bgcolor"]) == ("#322", "#533")
    assert seen[first + 1]["title"] == "Mine"
    # The title that our workflow was published with is translated.
    assert seen[first + 2]["title"] == ("提示词" if locale == "zh" else "Prompt")
