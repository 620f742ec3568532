"""Runs the node pack's JavaScript modules with node, if it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from real_worker import ROOT

SCRIPTS = ROOT / "comfy_node" / "web" / "js"
# Stand-ins for what the modules import from ComfyUI's frontend and need from a browser.
FRONTEND = {
    "scripts/app.js": """
        export const extensions = [];
        export const app = {
          graph: { _nodes: [], _groups: [], subgraphs: new Map(), getNodeById: () => null },
          ui: { settings: { getSettingValue: () => globalThis.ovisLocale ?? "en" } },
          registerExtension: (extension) => extensions.push(extension),
        };
    """,
    "scripts/api.js": """
        export const events = {};
        export const api = {
          clientId: "a page",
          addEventListener: (name, hear) => (events[name] ??= []).push(hear),
          apiURL: (path) => path,
          fetchApi: async (path, options) => globalThis.ovisAnswer(path, options),
        };
    """,
}
BROWSER = """
    globalThis.document = {
      hidden: false,
      createElement: (tag) => Object.assign(new EventTarget(), {
        tag, style: {}, dataset: {}, children: [], offsetHeight: 20,
        append(...more) {
          for (const one of more) if (typeof one !== "string") one.parent = this;
          this.children.push(...more);
        },
        replaceChildren(...all) { this.children = []; this.append(...all); },
        after(next) { this.parent.append(next); },
        before(next) { this.parent.append(next); },
        remove() { this.parent.children = this.parent.children.filter((one) => one !== this); },
        setAttribute() {},
        get childElementCount() { return this.children.length; },
      }),
    };
    document.createElementNS = (_, tag) => document.createElement(tag);
    globalThis.setInterval = (look) => { (globalThis.ovisLooks ??= []).push(look); };
    globalThis.clearInterval = () => {};
    globalThis.ovisAnswer = async () => ({ ok: true, text: async () => "{}" });
"""


def evaluate(module: str, expression: str) -> object:
    """The value of ``expression``, in which ``m`` is the module with its exports."""
    return _run(
        f"const m = await import({json.dumps((SCRIPTS / module).as_uri())});"
        f"console.log(JSON.stringify({expression}));"
    )


def play(story: str, **told: object) -> object:
    """Runs ``story``, the body of a function, with all of the pack's modules.

    In it, ``app``, ``extensions``, ``api`` and ``events`` stand in for ComfyUI's frontend, ``told``
    is the argument given here, and ``load(name)`` imports a module. Returns the function's result.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        placed = root / "extensions" / "ovis-worker" / "js"
        shutil.copytree(SCRIPTS, placed)
        for path, source in FRONTEND.items():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text(source)
        (root / "package.json").write_text('{"type": "module"}')
        imports = "".join(
            f"await load({json.dumps(path.name)});" for path in sorted(placed.glob("*.js"))
        )
        return _run(
            f"{BROWSER}"
            f"const told = {json.dumps(told)};"
            "globalThis.ovisLocale = told.locale;"
            f"const at = (path) => import({json.dumps(root.as_uri())} + '/' + path);"
            "const load = (name) => at(`extensions/ovis-worker/js/${name}`);"
            "const { app, extensions } = await at('scripts/app.js');"
            "const { api, events } = await at('scripts/api.js');"
            f"{imports}"
            f"const story = async () => {{{story}}};"
            "console.log(JSON.stringify(await story()));"
        )


def _run(program: str) -> object:
    node = shutil.which("node")
    if node is None:
        pytest.skip("SKIPPED: there is no node, so the browser's side was NOT compared.")
    command = [node, "--no-warnings", "--input-type=module", "--eval", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
