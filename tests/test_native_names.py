"""Nodes as native ones are: names, newer fields of schemas, exact sizes, and no file per schema."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import importlib
import io as files
import json
import os
import pathlib
import sys

import pytest
import torch

import fake_comfy
from comfy_node.texts import WorkerError

KSAMPLER = [
    *("seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "latent_image", "denoise"),
]
ADVANCED = [
    *("add_noise", "noise_seed", "steps", "cfg", "sampler_name", "scheduler", "positive"),
    *("latent_image", "start_at_step", "end_at_step", "return_with_leftover_noise"),
]
"""The inputs of ComfyUI's own nodes in their order, except `model`, and `negative`, which is
optional here."""


@pytest.fixture
def pack(tmp_path):
    with fake_comfy.installed(tmp_path) as nodes:
        yield nodes


def by_name(pack) -> dict:
    listed = asyncio.run(pack.OvisExtension().get_node_list())
    return {node.__name__: node for node in listed}


@pytest.mark.parametrize(
    ("node", "native"), [("OvisKSampler", KSAMPLER), ("OvisKSamplerAdvanced", ADVANCED)]
)
def test_the_required_inputs_are_named_and_ordered_as_in_the_native_node(pack, node, native):
    inputs = by_name(pack)[node].define_schema().inputs
    assert [one.id for one in inputs if not one.optional] == ["worker", *native]
    assert "negative" in [one.id for one in inputs if one.optional]
    settings = {one.id: one.settings for one in inputs}
    assert (settings["steps"]["min"], settings["steps"]["max"]) == (1, 200)
    assert (settings["cfg"]["min"], settings["cfg"]["max"]) == (0.0, 100.0)


def test_only_the_first_forms_are_deprecated(pack):
    deprecated = {
        name for name, node in by_name(pack).items() if node.define_schema().is_deprecated
    }
    assert deprecated == {"OvisDenoise", "OvisDenoiseAdvanced", "OvisDecode"}


def test_newer_fields_are_left_out_where_they_are_unknown_and_set_where_they_are_known(
    pack, monkeypatch
):
    nodes = by_name(pack)
    for node in nodes.values():
        node.define_schema()  # the stand-in refuses what version 0.3.64 refuses
    io = sys.modules["comfy_api.latest"].io
    newer = dataclasses.make_dataclass(
        "Schema",
        [
            ("search_aliases", list, dataclasses.field(default_factory=list)),
            ("essentials_category", str, None),
            ("has_intermediate_output", bool, False),
        ],
        bases=(fake_comfy.Schema,),
    )
    monkeypatch.setattr(io, "Schema", newer)
    schemas = {name: node.define_schema() for name, node in nodes.items()}
    assert "KSampler" in schemas["OvisKSampler"].search_aliases
    assert "VAE Decode" in schemas["OvisVAEDecode"].search_aliases
    assert schemas["OvisKSampler"].essentials_category == "Image Generation"
    assert schemas["OvisEncode"].has_intermediate_output
    assert not any(schemas[name].search_aliases for name in schemas if schemas[name].is_deprecated)


def test_a_schema_reads_no_disk(pack, monkeypatch):
    nodes = by_name(pack)

    def forbidden(*args: object, **_: object) -> None:
        raise AssertionError(f"define_schema looked at {args}")

    with monkeypatch.context() as patch:
        for module, names in (
            (builtins, ["open"]),
            (files, ["open"]),
            (os, ["open", "stat", "lstat", "listdir", "scandir"]),
            (pathlib.Path, ["open", "stat", "exists", "is_file", "glob", "iterdir"]),
        ):
            for name in names:
                patch.setattr(module, name, forbidden)
        for node in nodes.values():
            node.define_schema()


def test_options_from_files_are_read_before_comfyui_describes_its_nodes(pack, tmp_path):
    choices = importlib.import_module("comfy_node.nodes.choices")

    def options() -> list[list[str]]:
        nodes = by_name(pack)
        schemas = (nodes[name].define_schema() for name in ("OvisWorker", "OvisPromptTemplate"))
        return [schema.inputs[0].settings["options"] for schema in schemas]

    async def answered(path: str) -> str:
        class Request:
            pass

        async def handler(request: object) -> str:
            return request.path

        request = Request()
        request.path = path
        return await choices.refreshing(request, handler)

    assert options() == [["local"], []]
    settings = choices.folders().private / "ovis_worker.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps({"workers": {"studio": {"url": "ws://studio:7867"}}}))
    assert asyncio.run(answered("/prompt")) == "/prompt"
    assert options() == [["local"], []]
    assert asyncio.run(answered("/api/object_info/OvisWorker")) == "/api/object_info/OvisWorker"
    labels, names = options()
    assert labels == ["local", "studio"] and "poster" in names


def test_replacements_name_every_input_of_the_earlier_node_and_its_successor(pack):
    replacements = importlib.import_module("comfy_node.nodes.replacements")
    nodes = by_name(pack)
    for old, (new, widgets, names) in replacements.REPLACED.items():
        earlier, later = (nodes[name].define_schema().inputs for name in (old, new))
        assert set(names) == {one.id for one in earlier}
        assert set(names.values()) <= {one.id for one in later}
        kinds = ("Int", "Float", "Combo", "String")
        # The frontend creates the widgets of required inputs first.
        ordered = sorted(earlier, key=lambda one: one.optional)
        assert widgets == [one.id for one in ordered if one.kind in kinds]


def test_replacements_are_registered_where_comfyui_knows_them(pack, monkeypatch):
    replacements = importlib.import_module("comfy_node.nodes.replacements")
    asyncio.run(replacements.register())  # unknown in the stand-in: nothing happens
    latest = sys.modules["comfy_api.latest"]
    registered = []

    class ComfyAPI:
        class node_replacement:
            @staticmethod
            async def register(one: dict) -> None:
                registered.append(one)

    monkeypatch.setattr(latest, "ComfyAPI", ComfyAPI, raising=False)
    monkeypatch.setattr(latest.io, "NodeReplace", dict, raising=False)
    asyncio.run(replacements.register())
    assert [one["old_node_id"] for one in registered] == list(replacements.REPLACED)
    assert {"new_id": "sampler_name", "old_id": "sampler"} in registered[0]["input_mapping"]


def size_of(pack, **sides: object) -> tuple[int, int]:
    latent, width, height = (
        by_name(pack)["OvisEmptyLatent"].execute(2.0, 1.0, 1, "free", **sides).values
    )
    assert latent["samples"].shape == (1, 16, height // 8, width // 8)
    return width, height


@pytest.mark.parametrize(
    ("sides", "size"),
    [
        ({"width": 1104, "height": 528}, (1104, 528)),
        ({"width": 1024}, (1024, 512)),
        ({"height": 512}, (1024, 512)),
        ({"width": 0, "height": 0}, (1456, 720)),
        ({}, (1456, 720)),
        ({"width": 4096, "height": 1024}, (4096, 1024)),
    ],
)
def test_an_exact_size_overrides_aspect_ratio_and_area(pack, sides, size):
    assert size_of(pack, **sides) == size


@pytest.mark.parametrize(
    ("sides", "said", "hint"),
    [
        ({"width": 1000}, "`width` is 1000; Ovis-Image needs a multiple of 16", "992 or 1008"),
        ({"width": 2048, "height": 256}, "2048 × 256 pixels is not a size", "quarter"),
        ({"width": 4096, "height": 4096}, "4096 × 4096 pixels is not a size", "4 megapixels"),
        ({"width": 8192}, "`width` expects a whole number from 0 to 4096", ""),
    ],
)
def test_a_size_the_model_does_not_take_is_refused_with_a_sentence(pack, sides, said, hint):
    with pytest.raises(WorkerError) as caught:
        size_of(pack, **sides)
    assert said in caught.value.message and hint in caught.value.hint
    assert caught.value.text("zh") != caught.value.text("en")


@pytest.mark.parametrize(
    ("quality", "steps"),
    [("steps as set", 33), ("preview: 20 steps", 20), ("final: 50 steps", 50)],
)
def test_one_switch_chooses_preview_or_final(pack, monkeypatch, quality, steps):
    module = importlib.import_module("comfy_node.nodes.ksampler")
    asked = []

    async def denoised(_node: str, _worker: str, request: object, *_: object) -> None:
        asked.append(request.steps)

    monkeypatch.setattr(module, "run_denoise", denoised)
    asyncio.run(
        module.OvisKSampler.execute(
            "local", 1, 33, 5.0, "euler", "flux", [], {}, 1.0, quality=quality
        )
    )
    assert asked == [steps]


def test_values_of_half_precision_are_taken(pack):
    """ComfyUI's `--fp16-intermediates` brings images, latents and conditionings of float16."""
    jobs = importlib.import_module("comfy_node.nodes.jobs")
    image = importlib.import_module("comfy_node.nodes.image")
    half = torch.rand(1, 40, 33, 3).half()
    wired = jobs.to_wire("image", image.crop_to_multiple(half))
    assert wired.header.shape == [1, 32, 32, 3]
    values = torch.frombuffer(wired.data, dtype=torch.float32)
    assert torch.equal(values, half[:, 4:36, :32].float().flatten())
    given = importlib.import_module("comfy_node.nodes.denoise_inputs")
    samples = torch.rand(1, 16, 4, 4).half()
    latent = {"samples": samples, "noise_mask": torch.rand(1, 32, 32).half()}
    positive = [[torch.rand(1, 4, 8).half(), {}]]
    tensors = given.denoise_tensors(positive, positive, True, latent, samples)
    assert {one.header.dtype.name for one in tensors} == {"F32"}
    (sheet,) = (
        by_name(pack)["OvisCompare"]
        .execute(half, half[:, :32], "side by side", 0.5, 1.0, "", "")
        .values
    )
    assert sheet.dtype == torch.float32


def test_no_output_has_an_inputs_id(pack):
    """Version 0.3.64 refuses the whole pack otherwise."""
    for node in by_name(pack).values():
        schema = node.define_schema()
        ids = [one.id for one in [*schema.inputs, *schema.outputs] if one.id]
        assert len(set(ids)) == len(ids), schema.node_id
