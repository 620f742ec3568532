"""A poster without a graph: the template as an app, and the blueprint as one node.

Runs when ``tests/browser/test_browser.py`` does.
"""

from __future__ import annotations

import pytest

from test_browser import act, comfy, pixels

FIXTURES = (act, comfy)  # pytest finds them by name
CLEAN = {"missing": [], "red": [], "dialogs": []}


@pytest.fixture
def newer(comfy):
    if comfy.version < (0, 18):
        pytest.skip("SKIPPED: this ComfyUI has neither blueprints nor app mode; NOT tried.")


def made(comfy, seen: dict) -> list[dict]:
    """The nodes of the queued prompt; its picture is there and not empty."""
    assert seen["run"]["end"] == "execution_success", seen["run"]["error"]
    (saved,) = [image for image in seen["run"]["images"] if image["type"] == "output"]
    assert pixels(comfy, saved).std() > 0
    assert seen["troubles"] == CLEAN
    return list(seen["prompt"].values())


def texts(nodes: list[dict]) -> dict:
    (template,) = [one["inputs"] for one in nodes if one["class_type"] == "OvisPromptTemplate"]
    return template


def test_the_poster_template_is_an_app_with_four_boxes_and_the_picture(comfy, act, newer):
    seen = act("app")
    assert seen["labels"][:4] == ["style", "headline", "colours", "preset"]
    assert set(seen["labels"][4:]) <= {"poster 2:3"}, "the app shows more than that"
    assert texts(made(comfy, seen))["headline"] == "OPEN DAY"
    assert seen["pictures"] > 0


def test_the_blueprint_is_one_node_with_four_widgets(comfy, act, newer):
    seen = act("blueprint")
    assert seen["titles"] == ["Ovis Poster"] and seen["outputs"] == ["IMAGE"]
    assert [name for name, _ in seen["widgets"]] == ["style", "headline", "look", "size"]
    assert dict(seen["widgets"])["look"] == "poster"
    template = texts(made(comfy, seen))
    assert (template["headline"], template["template"]) == ("OPEN DAY", "poster")
