"""Parts of the node pack that need no ComfyUI: sizes, workflows, import of the root package."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
import sys
import types
from collections.abc import Iterator

import pytest

import fake_comfy
from comfy_node.pictures.sizes import size_of
from comfy_node.prompts.advice import advise
from real_worker import ROOT

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
DENOISERS = {"OvisKSampler", "OvisKSamplerAdvanced", "OvisContactSheet"}


def test_every_slider_position_gives_a_size_the_model_takes():
    for hundredths in range(25, 401):
        for twentieths in range(1, 81):
            ratio, megapixels = hundredths / 100, twentieths / 20
            width, height = size_of(ratio, megapixels)
            assert width % 16 == 0 and height % 16 == 0
            assert width <= 4 * height and height <= 4 * width
            # In a small image, 16 pixels are a larger share.
            close = 0.05 if megapixels >= 0.25 else 0.09
            assert abs(width * height / (megapixels * 1024 * 1024) - 1) < close
            assert abs(width / height / ratio - 1) < close


@pytest.mark.parametrize(
    ("ratio", "megapixels", "size"),
    [
        (1, 0.06, (256, 256)),
        (1, 1, (1024, 1024)),
        (4, 0.25, (1024, 256)),
        (0.25, 4, (1024, 4096)),
        (1, 4, (2048, 2048)),
    ],
)
def test_round_sizes_come_out_round(ratio, megapixels, size):
    assert size_of(ratio, megapixels) == size


@contextlib.contextmanager
def imported(name: str, search: list[str] | None) -> Iterator[types.ModuleType]:
    """The root's ``__init__.py`` under any name, as a package where it has a search path."""
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "__init__.py", submodule_search_locations=search
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        for loaded in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
            del sys.modules[loaded]


def test_the_root_can_be_imported_without_comfyui():
    for name, search in (("ovis_worker_pack", [str(ROOT)]), ("__init__", None)):
        with imported(name, search) as module:
            assert module.WEB_DIRECTORY == "./comfy_node/web"
            assert not hasattr(module, "comfy_entrypoint")


def test_the_entry_point_works_in_a_folder_of_any_name(tmp_path):
    with fake_comfy.installed(tmp_path), imported("a clone, renamed", [str(ROOT)]) as module:
        server = sys.modules["server"].PromptServer.instance
        extension = asyncio.run(module.comfy_entrypoint())
        nodes = asyncio.run(extension.get_node_list())
        assert len({node.define_schema().node_id for node in nodes}) == 14
        assert {route.path.split("/")[1] for route in server.routes} == {"ovis-worker"}
        assert server.on_prompt({"client_id": "a"}) == {"client_id": "a"}


def test_there_is_a_workflow_for_each_purpose():
    assert [path.stem for path in WORKFLOWS] == [
        "ovis_bilingual_banner",
        "ovis_contact_sheet",
        "ovis_first_poster",
        "ovis_image_to_image",
        "ovis_inpaint_headline",
        "ovis_lora",
        "ovis_native_mix",
        "ovis_poster",
        "ovis_poster_template",
        "ovis_text_to_image",
    ]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory) -> dict[str, fake_comfy.Schema]:
    """The schemas of the pack's nodes by name."""
    with fake_comfy.installed(tmp_path_factory.mktemp("comfyui")) as nodes:
        listed = asyncio.run(nodes.OvisExtension().get_node_list())
        return {schema.node_id: schema for schema in (node.define_schema() for node in listed)}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
class TestWorkflow:
    """Requirements for every workflow of the pack."""

    def test_it_names_no_host_token_or_path(self, path):
        text = path.read_text(encoding="utf-8")
        # The weights are public; test_registry.py checks their addresses.
        text = text.replace("https://huggingface.co/Comfy-Org/", "")
        assert not re.search(r"://|localhost|\d+\.\d+\.\d+\.\d+|token|[A-Za-z]:\\\\|\"[/~]", text)
        nodes = json.loads(text)["nodes"]
        labels = [node["widgets_values"] for node in nodes if node["type"] == "OvisWorker"]
        assert labels == [["local", "normal", "default"]]

    def test_its_links_join_what_they_say(self, path):
        graph = json.loads(path.read_text(encoding="utf-8"))
        nodes = {node["id"]: node for node in graph["nodes"]}
        for link, source, output, target, socket, kind in graph["links"]:
            out, into = nodes[source]["outputs"][output], nodes[target]["inputs"][socket]
            assert link in out["links"] and into["link"] == link
            assert out["type"] == into["type"] == kind
        assert graph["last_link_id"] == max(link[0] for link in graph["links"])
        assert graph["last_node_id"] == max(nodes)

    def test_it_makes_an_image_on_the_worker(self, path):
        used = {node["type"] for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]}
        assert {"OvisWorker", "OvisEncode", "SaveImage"} <= used
        assert used & DENOISERS
        assert "OvisVAEDecode" in used or "OvisContactSheet" in used

    def test_its_values_are_within_what_their_widgets_take(self, path, schemas):
        for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
            if node["type"] not in schemas:
                continue
            values = iter(node["widgets_values"])
            for widget in schemas[node["type"]].inputs:
                if widget.kind not in fake_comfy.WIDGETS:
                    continue
                value, told = next(values), widget.settings
                where = f"{node['type']} {widget.id}: {value}"
                if widget.kind in ("Int", "Float"):
                    assert told["min"] <= value <= told["max"], where
                if told.get("control_after_generate"):
                    assert next(values) in ("fixed", "randomize"), where
            assert next(values, None) is None, node["type"]

    def test_its_nodes_lie_apart(self, path):
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        boxes = [(*node["pos"], *node["size"]) for node in nodes]
        for index, (x, y, width, height) in enumerate(boxes):
            for left, top, wide, high in boxes[index + 1 :]:
                # The title bar is 30 pixels above its node.
                apart_across = x + width < left or left + wide < x
                apart_down = y + height < top - 30 or top + high < y - 30
                assert apart_across or apart_down

    def test_its_prompts_follow_the_advice(self, path):
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        prompts = [node["widgets_values"][0] for node in nodes if node["type"] == "OvisEncode"]
        assert [advise(prompt) for prompt in prompts] == [[] for _ in prompts]

    def test_it_has_a_thumbnail(self, path):
        assert path.with_suffix(".jpg").read_bytes()[:2] == b"\xff\xd8"


def test_the_demo_models_prompts_belong_to_prompts_in_the_workflows():
    prompts = json.loads((ROOT / "tests" / "demo_prompts.json").read_text(encoding="utf-8"))
    for name, told in prompts.items():
        path = ROOT / "workflows" / f"{name.removesuffix('-zh')}.json"
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        assert set(told) <= {node.get("title") for node in nodes if node["type"] == "OvisEncode"}
