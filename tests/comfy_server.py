"""A real ComfyUI for the tests: its process, its HTTP API and its websocket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

ROOT = Path(__file__).parent.parent
START_SECONDS = 180
RUN_SECONDS = 300
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def copy_pack(pack: Path) -> None:
    """Copies the node pack: in the clone itself, its nodes would start a worker that was built
    there."""
    for folder in ("comfy_node", "locales", "workflows", "subgraphs"):
        shutil.copytree(ROOT / folder, pack / folder, dirs_exist_ok=True)
    for file in ("__init__.py", "pyproject.toml"):
        shutil.copy(ROOT / file, pack)


@dataclass
class Run:
    """The messages of ComfyUI about one queued prompt."""

    messages: list[dict] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)

    def of(self, kind: str) -> list[dict]:
        """The data of the messages of one type."""
        return [message["data"] for message in self.messages if message["type"] == kind]

    @property
    def error(self) -> str:
        """The sentence on the node that failed, or an empty string."""
        return next((data["exception_message"] for data in self.of("execution_error")), "")

    def files(self, kind: str) -> list[str]:
        """Names of the output files that nodes reported under ``kind``."""
        outputs = [data["output"] for data in self.of("executed") if data.get("output")]
        return [item["filename"] for output in outputs for item in output.get(kind, [])]


class ComfyServer:
    """``main.py --cpu`` of the checkout, with the node pack in ``custom_nodes``.

    With ``installed``, the pack is there already. ``python`` has ComfyUI's requirements.
    """

    ours: dict[str, dict]
    """ComfyUI's descriptions of the pack's nodes."""
    worker_port: int
    """The port of the worker with the label ``local``."""

    def __init__(
        self,
        checkout: Path,
        base: Path,
        environ: dict[str, str],
        packs: Sequence[Path] = (),
        flags: Sequence[str] = (),
        *,
        installed: bool = False,
        python: str = "",
    ) -> None:
        self.base = base
        for folder in ("custom_nodes", "input", "user/default", "output", "models"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        if not installed:
            copy_pack(base / "custom_nodes" / "ovis-worker")
        for other in packs:
            (base / "custom_nodes" / other.name).symlink_to(other, target_is_directory=True)
        if base != checkout:
            shutil.copy(checkout / "input" / "example.png", base / "input")
        self.port = free_port()
        self.log = base / "comfyui.log"
        python = python or os.environ.get("OVIS_COMFYUI_PYTHON", sys.executable)
        command = [python, "main.py", "--cpu"]
        command += ["--port", str(self.port), "--base-directory", str(base)]
        command += ["--disable-auto-launch", "--preview-method", "auto"]
        if not installed:  # with this, a page may not ask the registry, which the manager's does
            command.append("--disable-api-nodes")
        command += flags
        if frontend := os.environ.get("OVIS_COMFYUI_FRONTEND"):
            command += ["--front-end-root", frontend]
        self._start = lambda log: subprocess.Popen(
            command,
            cwd=checkout,
            env={**os.environ, **environ},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        with self.log.open("wb") as log:
            self.process = self._start(log)
        self._wait()
        self.info = self.get("/object_info")
        self.ours = {name: one for name, one in self.info.items() if one["category"] == "ovis"}
        version = self.get("/system_stats")["system"]["comfyui_version"]
        self.version = tuple(int(part) for part in version.split(".")[:2])

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"ComfyUI did not start:\n{self.tail()}") from error
                time.sleep(0.5)

    def tail(self) -> str:
        """The end of ComfyUI's log."""
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """Ends ComfyUI."""
        self.process.terminate()
        self.process.wait(30)

    def restart(self, *, kill: bool = False) -> None:
        """Ends ComfyUI, asked or killed, and starts it again at the same address."""
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait(60)
        with self.log.open("ab") as log:
            self.process = self._start(log)
        self._wait()

    def get(self, path: str) -> object:
        """Requests a path and returns its JSON answer."""
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        """Requests a path and returns the body."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return answer.read()

    def post(self, path: str, content: object) -> object:
        """Posts JSON and returns the JSON answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(content).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def run(
        self,
        graph: dict,
        on_message: Callable[[dict], str | None] = lambda _: None,
        language: str = "en",
        **extra_data: object,
    ) -> Run:
        """Queues an API-format graph as a page in ``language`` and waits until it has ended.

        A text on a node is reported as a message of the type ``text``. If ``on_message`` returns a
        path, that path is posted to ComfyUI.
        """
        running = self._run(graph, on_message, language, extra_data)
        return asyncio.run(asyncio.wait_for(running, RUN_SECONDS))

    async def _run(
        self,
        graph: dict,
        on_message: Callable[[dict], str | None],
        language: str,
        extra_data: dict,
    ) -> Run:
        address = f"http://127.0.0.1:{self.port}"
        client = uuid.uuid4().hex
        run = Run()
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{address}/ws?clientId={client}") as events,
        ):
            told = {"client": client, "language": language}
            async with session.post(f"{address}/ovis-worker/language", json=told) as answer:
                assert answer.status == 200, await answer.text()
            body = {"prompt": graph, "client_id": client, "extra_data": extra_data}
            async with session.post(f"{address}/prompt", json=body) as answer:
                queued = await answer.json()
                assert answer.status == 200, queued
            async for frame in events:
                if frame.type is aiohttp.WSMsgType.BINARY:
                    kind = int.from_bytes(frame.data[:4], "big")
                    if kind == 1:  # a preview, after four bytes for its format
                        run.previews.append(frame.data[8:])
                    continue
                message = json.loads(frame.data)
                if message["type"] == "ovis-worker.text":
                    run.texts.append(message["data"]["text"])
                    message = {"type": "text", "data": run.texts[-1]}
                elif message["data"].get("prompt_id") == queued["prompt_id"]:
                    run.messages.append(message)
                else:
                    continue
                path = on_message(message)
                if path:
                    await session.post(f"{address}{path}", json={})
                if message["type"] in (
                    "execution_success",
                    "execution_error",
                    "execution_interrupted",
                ):
                    return run
        raise RuntimeError(f"ComfyUI closed its websocket:\n{self.tail()}")

    def api_format(self, workflow: dict, *, older: bool = False) -> dict:
        """A graph-format workflow as the frontend would queue it.

        In one of an ``older`` version, nodes of ours may lack values of later widgets.
        """
        links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
        return {
            str(node["id"]): {
                "class_type": node["type"],
                "inputs": self._inputs(node, links, older),
            }
            for node in workflow["nodes"]
            if node["type"] != "MarkdownNote"  # only the frontend has it
        }

    def _inputs(self, node: dict, links: dict[int, list], older: bool) -> dict:
        info = self.info[node["type"]]
        values = iter(node["widgets_values"])
        inputs = {}
        for group in ("required", "optional"):
            for name, (kind, *options) in info["input"].get(group, {}).items():
                settings = options[0] if options else {}
                if not (isinstance(kind, list) or kind in WIDGETS):
                    continue
                # If a native node has got a new widget since the graph was saved, the frontend
                # uses its default. For our own nodes the values must be complete.
                may_lack = older or node["type"] not in self.ours
                default = settings.get("default") if may_lack else None
                inputs[name] = next(values, default)
                assert inputs[name] is not None, f"{node['type']} has no value for `{name}`"
                if settings.get("control_after_generate") or settings.get("image_upload"):
                    next(values)
        assert next(values, None) is None, f"{node['type']} has more widget values than widgets"
        # A link overrides the value of the widget that it replaces.
        sockets = {socket["name"]: socket["link"] for socket in node["inputs"]}
        linked = {name: links[link] for name, link in sockets.items() if link is not None}
        return inputs | linked
