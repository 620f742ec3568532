"""ComfyUI's manager on this machine: a registry with one pack, and the manager's own command."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import urllib.parse
import zipfile
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from worker_binary import ROOT

PACK = "ovis-worker"
VERSION = re.search(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text())[1]

COMMAND = """
import sys
from comfyui_manager.common import cnr_utils
cnr_utils.base_url = sys.argv.pop(1)
from cm_cli.__main__ import main
sys.argv[0] = "cm-cli"
main()
"""
"""`cm-cli`, which asks the registry whose address is the first argument."""


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
        self.archive = folder / "node.zip"
        with zipfile.ZipFile(self.archive, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(packed()):
                archive.write(ROOT / name, name)
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = registry.answer(urllib.parse.urlparse(self.path).path)
                self.send_response(404 if found is None else 200)
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
        version = {
            "id": f"{PACK}-{VERSION}",
            "version": VERSION,
            "status": "NodeVersionStatusActive",
            "downloadUrl": f"{self.address}/node.zip",
        }
        node = {"id": PACK, "name": "Ovis Worker", "latest_version": version}
        if path == "/node.zip":
            return self.archive.read_bytes()
        pages = {
            "/nodes": {"nodes": [node], "total": 1, "page": 1, "totalPages": 1},
            f"/nodes/{PACK}/install": version,
            f"/nodes/{PACK}/versions": [version],
        }
        return json.dumps(pages[path]).encode() if path in pages else None

    def close(self) -> None:
        """Stops answering."""
        self.server.shutdown()
        self.server.server_close()


def install(python: Path, comfyui: Path, registry: Registry, wheels: Path) -> str:
    """Has the manager in `python` install the pack into a ComfyUI folder, with what it requires
    from the packages in `wheels`. Returns what it said."""
    asked: Sequence[str] = ("install", "--mode", "local", "--exit-on-fail", f"{PACK}@{VERSION}")
    done = subprocess.run(
        [str(python), "-c", COMMAND, registry.address, *asked],
        cwd=comfyui,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(comfyui.parent),
            "COMFYUI_PATH": str(comfyui),
            "UV_OFFLINE": "1",
            "UV_NO_INDEX": "1",
            "UV_FIND_LINKS": str(wheels),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    return said
