"""The blueprint and the app: JSON files that name existing nodes, inputs and widgets."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

import fake_comfy
from real_worker import ROOT

BLUEPRINT = json.loads((ROOT / "subgraphs" / "Ovis Poster.json").read_text(encoding="utf-8"))
APP = json.loads((ROOT / "workflows" / "ovis_poster_template.json").read_text(encoding="utf-8"))
INTO, OUT = -10, -20
"""The ids that a subgraph's own inputs and outputs have in its links."""


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    with fake_comfy.installed(tmp_path_factory.mktemp("comfyui")) as pack:
        listed = asyncio.run(pack.OvisExtension().get_node_list())
        yield {node.__name__: node.define_schema() for node in listed}


def test_the_blueprint_is_one_node_with_style_headline_look_and_size():
    (node,) = BLUEPRINT["nodes"]
    (subgraph,) = BLUEPRINT["definitions"]["subgraphs"]
    assert node["type"] == subgraph["id"] and subgraph["name"] == "Ovis Poster"
    names = ["style", "headline", "look", "size"]
    assert [one["name"] for one in subgraph["inputs"]] == names
    assert [one["name"] for one in node["inputs"]] == names
    assert node["properties"]["proxyWidgets"] == [["-1", name] for name in names]
    assert [one["type"] for one in subgraph["outputs"]] == ["IMAGE"]
    for one in [node, *subgraph["nodes"]]:
        assert one["properties"]["cnr_id"] == "ovis-worker"


def test_the_blueprints_links_join_what_they_say(schemas):
    (subgraph,) = BLUEPRINT["definitions"]["subgraphs"]
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    for node in nodes.values():
        known = {one.id for one in schemas[node["type"]].inputs}
        assert {one["name"] for one in node["inputs"]} <= known
    for link in subgraph["links"]:
        if link["origin_id"] == INTO:
            start = subgraph["inputs"][link["origin_slot"]]
            assert link["id"] in start["linkIds"]
        else:
            start = nodes[link["origin_id"]]["outputs"][link["origin_slot"]]
            assert link["id"] in start["links"]
        if link["target_id"] == OUT:
            end = subgraph["outputs"][link["target_slot"]]
            assert link["id"] in end["linkIds"]
        else:
            end = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert link["id"] == end["link"]
        assert start["type"] == end["type"] == link["type"]


def test_the_blueprint_names_no_host_and_no_path():
    text = json.dumps(BLUEPRINT).replace("https://huggingface.co/Comfy-Org/", "")
    assert not re.search(r"://|localhost|token", text)


def test_the_app_shows_style_headline_colour_size_and_the_picture(schemas):
    nodes = {node["id"]: node for node in APP["nodes"]}
    linear = APP["extra"]["linearData"]
    shown = [(nodes[id]["type"], widget) for id, widget in linear["inputs"]]
    assert shown == [
        ("OvisPromptTemplate", "style"),
        ("OvisPromptTemplate", "headline"),
        ("OvisPromptTemplate", "colours"),
        ("OvisEmptyLatent", "preset"),
    ]
    for kind, widget in shown:
        assert widget in {one.id for one in schemas[kind].inputs}
    assert [nodes[id]["type"] for id in linear["outputs"]] == ["SaveImage"]
    assert APP["extra"]["linearMode"] is True
