"""Weights in ComfyUI's own folders and in those of ``extra_model_paths.yaml``, and missing ones."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path

import pytest

import fake_comfy
from comfy_node.settings import lookup, weights
from comfy_node.settings.config import ComfyFolders
from comfy_node.texts import WorkerError
from comfy_node.worker.errors import StartFailed
from real_worker import ROOT

KINDS = ("diffusion_models", "text_encoders", "vae")


def folders(tmp_path: Path) -> ComfyFolders:
    """Each kind in the `models` folder, and in another one that comes after it."""
    models, extra = tmp_path / "models", tmp_path / "extra"
    for kind in KINDS:
        (models / kind).mkdir(parents=True, exist_ok=True)
        (extra / kind).mkdir(parents=True, exist_ok=True)
    places = {kind: (models / kind, extra / kind) for kind in KINDS}
    return ComfyFolders(private=tmp_path / "private", models=models, weights=places)


def put(folder: Path, *names: str) -> None:
    for file in weights.FILES:
        if file.name in names or not names:
            path = folder / file.folder / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def test_the_files_are_those_that_the_workflows_name():
    path = ROOT / "workflows" / "ovis_poster.json"
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    (told,) = [node["properties"]["models"] for node in nodes if node["type"] == "OvisWorker"]
    ours = [{"name": one.name, "url": one.url, "directory": one.folder} for one in weights.FILES]
    assert told == ours


def test_weights_in_the_models_folder_are_the_workers_to_find(tmp_path):
    here = folders(tmp_path)
    put(here.models)
    put(tmp_path / "extra")
    config = lookup.resolve("local", here, {})
    assert config.model == str(here.models) and "--transformer" not in config.args
    assert config.missing == ()


def test_weights_elsewhere_are_named_one_by_one(tmp_path):
    here = folders(tmp_path)
    put(tmp_path / "extra")
    config = lookup.resolve("local", here, {})
    args = dict(zip(config.args[::2], config.args[1::2], strict=True))
    extra = tmp_path / "extra"
    assert args == {one.option: str(extra / one.folder / one.name) for one in weights.FILES}
    assert config.model is None and config.missing == ()


def test_some_elsewhere_and_some_in_the_models_folder(tmp_path):
    here = folders(tmp_path)
    put(here.models, "ae.safetensors", "ovis_2.5.safetensors")
    (tmp_path / "extra/diffusion_models/sub").mkdir()
    (tmp_path / "extra/diffusion_models/sub/my-Ovis-image-fp8.safetensors").touch()
    config = lookup.resolve("local", here, {})
    assert config.model == str(here.models)
    place = config.args.index("--transformer")
    assert config.args[place + 1].endswith("sub/my-Ovis-image-fp8.safetensors")
    assert "--vae" not in config.args and config.missing == ()


@pytest.mark.parametrize("settings", [{"model": "/weights"}, {"args": ["--transformer", "/t"]}])
def test_what_the_settings_name_comes_first(tmp_path, settings):
    here = folders(tmp_path)
    put(tmp_path / "extra")
    here.private.mkdir()
    described = json.dumps({"workers": {"local": settings}})
    (here.private / "ovis_worker.json").write_text(described)
    config = lookup.resolve("local", here, {})
    assert str(tmp_path / "extra") not in " ".join(config.args) and config.missing == ()


def test_a_missing_file_names_itself_its_size_its_folder_and_its_address(tmp_path):
    here = folders(tmp_path)
    put(here.models, "ovis_2.5.safetensors")
    transformer, vae = lookup.resolve("local", here, {}).missing
    folder = here.models / "diffusion_models"
    assert transformer == (
        "ovis_image_bf16.safetensors (14.7 GB) is missing: download it from "
        "https://huggingface.co/Comfy-Org/Ovis-Image/resolve/main/split_files/diffusion_models/"
        f"ovis_image_bf16.safetensors into {folder}."
    )
    assert vae.startswith("ae.safetensors (0.3 GB)") and str(here.models / "vae") in vae


def test_outside_of_comfyui_nothing_is_missing():
    assert lookup.resolve("local", ComfyFolders(), {}).missing == ()


@pytest.fixture
def pack(tmp_path):
    with fake_comfy.installed(tmp_path) as nodes:
        known = sys.modules["folder_paths"].folder_names_and_paths
        for kind in KINDS:
            known[kind] = ([str(tmp_path / "models" / kind), str(tmp_path / "extra" / kind)], set())
        yield nodes


def test_comfyuis_own_list_of_folders_is_used(pack, tmp_path):
    found = importlib.import_module("comfy_node.nodes.comfyui").folders()
    extra = tmp_path / "extra" / "vae"
    assert found.weights["vae"] == (tmp_path / "models" / "vae", extra)


def test_a_worker_that_does_not_start_says_which_files_are_missing(pack, monkeypatch):
    module = importlib.import_module("comfy_node.nodes.worker")

    async def failed(*_: object) -> None:
        raise StartFailed("It did not start.", "Its log.")

    monkeypatch.setattr(module, "connect", failed)
    monkeypatch.delenv("OVIS_WORKER_MODEL", raising=False)
    with pytest.raises(WorkerError) as caught:
        asyncio.run(module.OvisWorker.execute("local"))
    assert caught.value.hint.startswith("Its log.\novis_image_bf16.safetensors (14.7 GB)")


def test_where_no_weights_are_there_one_sentence_is_enough(pack):
    told = importlib.import_module("comfy_node.nodes.worker")._told
    assert told(["a", "b"]) == ["a", "b"]
    (sentence,) = told([file.name for file in weights.FILES])
    assert "demo model" in sentence
