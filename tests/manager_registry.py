"""ComfyUI's manager without a network: a registry with one pack, and a clean ComfyUI for it.

Needs what ``real_comfyui`` needs, ``OVIS_WORKER_WHEEL``, the worker's package, and a
``OVIS_COMFYUI_PYTHON`` that has ComfyUI's manager (``pip install comfyui-manager``).
"""

from __future__ import annotations

import json
import mimetypes
import os
import shutil
import subprocess
import sys
import threading
import urllib.parse
import venv
import warnings
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tomllib

from comfy_server import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACK, VERSION = PROJECT["project"]["name"], PROJECT["project"]["version"]
PYTHON = os.environ.get("OVIS_COMFYUI_PYTHON", sys.executable)
WHEEL = os.environ.get("OVIS_WORKER_WHEEL")
MANAGER = ("comfyui_manager", "cm_cli")
SITE_PACKAGES = "[p for p in sys.path if p.endswith('site-packages')]"
REAL_REGISTRY = "https://api.comfy.org"


def git_files(*options: str) -> set[str]:
    """The files of the repository that `git ls-files` names."""
    command = ["git", "-C", str(ROOT), "ls-files", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def packed() -> set[str]:
    """The files that the registry packs."""
    return git_files() - git_files("--cached", "--ignored", "--exclude-from=.comfyignore")


class Registry:
    """Answers as api.comfy.org does, with one pack, whose archive is made of this repository."""

    def __init__(self, folder: Path) -> None:
        archive = folder / "node.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packing:
            for name in sorted(packed()):
                packing.write(ROOT / name, name)
        pictures = ROOT / "packaging" / "registry"
        self.files = {"/node.zip": archive, "/banner.png": pictures / "banner.png"}
        self.files["/icon.png"] = pictures / "icon.png"
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = registry.answer(urllib.parse.urlparse(self.path).path)
                self.send_response(404 if found is None else 200)
                self.send_header("Access-Control-Allow-Origin", "*")
                kind, _ = mimetypes.guess_type(self.path)
                self.send_header("Content-Type", kind or "application/json")
                self.send_header("Content-Length", str(len(found or b"")))
                self.end_headers()
                self.wfile.write(found or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> bytes | None:
        """The body for a path; None for one that is not there."""
        if path in self.files:
            return self.files[path].read_bytes()
        version = {
            "id": f"{PACK}-{VERSION}",
            "version": VERSION,
            "status": "NodeVersionStatusActive",
            "createdAt": "2026-11-27T00:00:00Z",
            "downloadUrl": f"{self.address}/node.zip",
        }
        comfy = PROJECT["tool"]["comfy"]
        node = {
            "id": PACK,
            "name": comfy["DisplayName"],
            "description": PROJECT["project"]["description"],
            "icon": f"{self.address}/icon.png",
            "banner_url": f"{self.address}/banner.png",
            "publisher": {"id": comfy["PublisherId"], "name": comfy["PublisherId"]},
            "repository": PROJECT["project"]["urls"]["Repository"],
            "status": "NodeStatusActive",
            "license": "Apache-2.0",
            "tags": [],
            "downloads": 0,
            "github_stars": 0,
            "latest_version": version,
        }
        page = {"nodes": [node], "total": 1, "page": 1, "limit": 64, "totalPages": 1}
        pages = {
            "/nodes": page,
            "/nodes/search": page,
            f"/nodes/{PACK}": node,
            f"/nodes/{PACK}/install": version,
            f"/nodes/{PACK}/versions": [version],
        }
        return json.dumps(pages[path]).encode() if path in pages else None

    def close(self) -> None:
        """Stops answering."""
        self.server.shutdown()
        self.server.server_close()


def asked_of(python: str | Path, expression: str) -> list[str]:
    """The lines of an expression's value in a Python."""
    question = f"import sys, sysconfig; print(*{expression}, sep='\\n')"
    done = subprocess.run([python, "-c", question], capture_output=True, text=True, check=True)
    return done.stdout.split()


def manager_in(folders: list[str]) -> dict[str, Path]:
    """The manager's packages by name: of each, the one in the first of the folders that has it."""
    return {
        name: Path(folder) / name
        for folder in reversed(folders)
        for name in MANAGER
        if (Path(folder) / name).exists()
    }


class Machine:
    """A ComfyUI without packs, and a Python of its own with ComfyUI's requirements and its manager,
    which asks `registry`, and whose pip knows only the worker's package."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.registry = Registry(folder)
        self.comfyui = folder / "ComfyUI"
        users = {".git", "user", "output", "custom_nodes", "models"}
        shutil.copytree(
            checkout,
            self.comfyui,
            ignore=lambda folder, _: users if Path(folder) == checkout else (),
        )
        (self.comfyui / "custom_nodes").mkdir()
        venv.create(folder / "python", with_pip=True)
        self.python = folder / "python" / "bin" / "python"
        [packages] = map(Path, asked_of(self.python, "[sysconfig.get_path('purelib')]"))
        theirs = asked_of(PYTHON, SITE_PACKAGES)
        # What is installed from now on goes into the new environment.
        (packages / "comfyui.pth").write_text("\n".join(theirs) + "\n")
        for name, found in manager_in(theirs).items():
            shutil.copytree(found, packages / name)
        asks = packages / "comfyui_manager" / "common" / "cnr_utils.py"
        text = asks.read_text("utf-8")
        assert REAL_REGISTRY in text
        asks.write_text(text.replace(REAL_REGISTRY, self.registry.address), "utf-8")
        settings = self.comfyui / "user" / "__manager" / "config.ini"
        settings.parent.mkdir(parents=True)
        settings.write_text("[default]\ndb_mode = local\n")
        self.environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "COMFYUI_PATH": str(self.comfyui),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(Path(WHEEL).parent),
            "UV_OFFLINE": "1",
            "UV_NO_INDEX": "1",
            "UV_FIND_LINKS": str(Path(WHEEL).parent),
        }

    @property
    def has_pack_and_worker(self) -> bool:
        """Whether the manager has installed both."""
        pack = self.comfyui / "custom_nodes" / PACK
        worker = self.python.parent / "ovis-worker"
        return (pack / ".tracking").exists() and worker.exists()

    def close(self) -> None:
        """Ends the registry."""
        self.registry.close()


def demand_manager() -> None:
    """Skips the test file that imports this where something is missing."""
    missing = "OVIS_WORKER_WHEEL does not name the worker's package"
    if WHEEL:
        has = len(manager_in(asked_of(PYTHON, SITE_PACKAGES))) == len(MANAGER)
        missing = "" if has else f"{PYTHON} lacks comfyui-manager"
    if missing:
        reason = f"SKIPPED: installing by ComfyUI's manager was NOT tried: {missing}."
        warnings.warn(reason, stacklevel=2)
        pytest.skip(reason, allow_module_level=True)
