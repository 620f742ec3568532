"""What ComfyUI's registry and manager read: one version, what is installed, what is left out."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib
import yaml
from PIL import Image

from comfy_node import wire
from comfy_node.settings.installed import PACKAGE
from comfy_node.worker.start_hint import WHEELS

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
SPLIT = "https://huggingface.co/Comfy-Org/Ovis-Image/resolve/main/split_files"
WEIGHTS = [
    {
        "name": "ovis_image_bf16.safetensors",
        "url": f"{SPLIT}/diffusion_models/ovis_image_bf16.safetensors",
        "directory": "diffusion_models",
    },
    {
        "name": "ovis_2.5.safetensors",
        "url": f"{SPLIT}/text_encoders/ovis_2.5.safetensors",
        "directory": "text_encoders",
    },
    {
        "name": "ae.safetensors",
        "url": "https://huggingface.co/Comfy-Org/z_image_turbo/resolve/main/split_files/vae/"
        "ae.safetensors",
        "directory": "vae",
    },
]
"""The files of ComfyUI's own workflow for Ovis-Image (`image_ovis_text_to_image`)."""


def toml(path: str) -> dict:
    return tomllib.loads((ROOT / path).read_text(encoding="utf-8"))


def version() -> str:
    return toml("pyproject.toml")["project"]["version"]


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


# One version


def test_all_places_name_one_version():
    shown = subprocess.run(
        [sys.executable, ROOT / "packaging/version"], capture_output=True, text=True
    )
    assert (shown.returncode, shown.stdout) == (0, f"{version()}\n")
    assert re.fullmatch(r"\d+\.\d+\.\d+", version())
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {version()}" in changes and f"protocol {wire.PROTOCOL_VERSION}" in changes


def test_the_version_is_changed_everywhere(tmp_path):
    script = runpy.run_path(str(ROOT / "packaging/version"))
    for path in script["versions"]():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    script["write"]("7.8.9", tmp_path)
    found = script["versions"](tmp_path)
    assert len(found) == len(script["versions"]()) > 12
    assert set.union(*found.values()) == {"7.8.9"} and all(found.values())
    other = (tmp_path / "Cargo.lock").read_text().count('version = "7.8.9"')
    assert other == 2  # ours, and no dependency's


# What is installed


def test_the_pack_requires_its_worker_where_there_is_one():
    (line,) = requirements()
    project = toml("pyproject.toml")["project"]
    assert project["dependencies"] == [line]
    required, _, marker = line.partition("; ")
    assert required == f"{PACKAGE}=={version()}"
    pattern = r"\(sys_platform == '(\w+)' and platform_machine == '(\w+)'\)"
    assert set(re.findall(pattern, marker)) == WHEELS


def test_the_workers_package_has_its_own_name_and_disturbs_no_pytorch():
    project = toml("worker/pyproject.toml")["project"]
    assert project["name"] == PACKAGE and "version" in project["dynamic"]
    assert "dependencies" not in project  # CUDA's libraries are PyTorch's, or the extra's
    for dependency in project["optional-dependencies"]["cuda"]:
        # No lower bound above the libraries of the first PyTorch for CUDA 13 (2.9), so that
        # none of its pinned packages is replaced.
        assert re.match(r"nvidia-[a-z0-9-]+>=[\d.]+,<\d+; sys_platform == 'linux'$", dependency)
    assert not (ROOT / "install.py").exists()


# What the registry shows


def test_the_registrys_fields_are_complete():
    project, comfy = toml("pyproject.toml")["project"], toml("pyproject.toml")["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", project["name"])
    assert "comfyui" not in project["name"]
    for name in ("Repository", "Documentation", "Bug Tracker"):
        assert project["urls"][name].startswith("https://github.com/ovis-worker/ovis-worker")
    assert comfy["requires-comfyui"] == ">=0.3.64" and comfy["PublisherId"]
    assert comfy["includes"] == []
    assert project["license"] == {"file": "LICENSE"} and (ROOT / "LICENSE").is_file()
    systems = {"Linux": "linux", "MacOS": "darwin", "Windows": "win32"}
    classified = {
        systems[one.rsplit(" :: ", 1)[1]]
        for one in project["classifiers"]
        if one.startswith("Operating System")
    }
    assert classified == {system for system, _ in WHEELS}


@pytest.mark.parametrize(("field", "ratio"), [("Icon", 1), ("Banner", 21 / 9)])
def test_icon_and_banner_have_the_registrys_shapes(field, ratio):
    url = toml("pyproject.toml")["tool"]["comfy"][field]
    path = ROOT / url.partition("/main/")[2]
    with Image.open(path) as image:
        assert image.width / image.height == pytest.approx(ratio)
        assert field != "Icon" or image.width <= 400
    assert path.stat().st_size < 100_000


def listed(*options: str) -> list[str]:
    command = ["git", "-C", str(ROOT), "ls-files", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")


def test_the_registrys_package_has_the_nodes_and_nothing_that_builds_them():
    # `comfy node pack` reads these patterns as git does.
    left_out = set(listed("--cached", "--ignored", "--exclude-from=.comfyignore"))
    packed = {path for path in listed() if path and path not in left_out}
    folders = {path.split("/")[0] for path in packed}
    assert folders == {
        ".comfyignore",
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "__init__.py",
        "comfy_node",
        "locales",
        "pyproject.toml",
        "requirements.txt",
        "workflows",
        "subgraphs",
    }
    assert sum((ROOT / path).stat().st_size for path in packed) < 2_000_000


# What workflows carry


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
class TestWorkflow:
    """The metadata of every workflow."""

    def test_every_node_names_its_pack(self, path):
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        for node in nodes:
            if node["type"] == "MarkdownNote":
                continue
            is_ours = node["type"].startswith("Ovis")
            expected = ("ovis-worker", version()) if is_ours else ("comfy-core", "0.3.64")
            properties = node["properties"]
            assert (properties["cnr_id"], properties["ver"]) == expected
            assert properties["Node name for S&R"] == node["type"]

    def test_it_says_where_the_weights_come_from(self, path):
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        carried = {node["type"]: node["properties"].get("models") for node in nodes}
        assert carried.pop("OvisWorker") == WEIGHTS
        assert carried.pop("VAELoader", WEIGHTS[2:]) == WEIGHTS[2:]
        assert not any(carried.values())
        (note,) = [node for node in nodes if node["type"] == "MarkdownNote"]
        (text,) = note["widgets_values"]
        for file in WEIGHTS:
            assert f"`models/{file['directory']}`: [{file['name']}]({file['url']})" in text


# Releases


def test_a_release_builds_a_package_for_each_system():
    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    runners = jobs["elsewhere"]["strategy"]["matrix"]["runner"]
    assert {runner.split("-")[0] for runner in runners} == {"macos", "windows"}
    assert "manylinux_2_28" in jobs["linux"]["container"]
    assert jobs["registry"]["needs"] == "pypi" and set(jobs["pypi"]["needs"]) == {
        "linux",
        "elsewhere",
    }
    assert "have not been tried" in text
