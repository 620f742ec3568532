#!/usr/bin/env python3
"""Makes the pictures that the repository shows, in a real ComfyUI on a model of your choice:

    export OVIS_COMFYUI=CHECKOUT OVIS_COMFYUI_PYTHON=PYTHON PYTHONPATH=.
    python tests/make_pictures.py thumbnails --model PATH [NAME ...]
    python tests/make_pictures.py screenshots --model PATH

`thumbnails` runs the workflows, or those that are named, and writes `workflows/NAME.jpg`.
`screenshots` runs the poster in the browser, in English and Chinese, and writes
`comfy_node/web/docs/graph-LANGUAGE.jpg`, which the README shows; it needs what `tests/browser`
needs.

For a model that knows little, `--megapixels`, `--aspect`, `--steps` and `--cfg` go into all
workflows, and `--prompts FILE.json` holds other prompts: `{WORKFLOW: {TITLE OF THE NODE: PROMPT}}`,
with `ovis_poster-zh` for the Chinese screenshot. `tests/demo_prompts.json` has what the demo model
understands:

    python tests/make_pictures.py thumbnails --model worker/demo/model --megapixels 0.06 \\
        --aspect 0.6 --steps 20 --cfg 3.5 --prompts tests/demo_prompts.json ovis_poster
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from comfy_node.pictures.captions import BACKGROUND
from comfy_node.pictures.sizes import FREE, size_of
from comfy_server import ROOT, ComfyServer, free_port
from real_worker import binary

WORKFLOWS = ROOT / "workflows"
SCREENSHOTS = ROOT / "comfy_node" / "web" / "docs"
BROWSER = ROOT / "tests" / "browser"
THUMBNAIL = 512
NATIVE_VAE = {"VAEDecode": "OvisVAEDecode", "VAEEncode": "OvisVAEEncode"}
SCREENSHOT_OF = "ovis_poster"


def main() -> None:
    told = arguments()
    prompts = json.loads(told.prompts.read_text(encoding="utf-8")) if told.prompts else {}
    with running(told.model) as comfy:
        if told.kind == "screenshots":
            for locale in ("en", "zh"):
                name = SCREENSHOT_OF if locale == "en" else f"{SCREENSHOT_OF}-{locale}"
                take_screenshot(comfy, locale, told, prompts.get(name, {}))
            return
        for name in told.names or sorted(path.stem for path in WORKFLOWS.glob("*.json")):
            make_thumbnail(comfy, name, told, prompts.get(name, {}))


def arguments() -> argparse.Namespace:
    about, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=["thumbnails", "screenshots"])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--megapixels", type=float)
    parser.add_argument("--aspect", type=float, help="width over height, of every workflow")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--cfg", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prompts", type=Path)
    return parser.parse_intermixed_args()


@contextlib.contextmanager
def running(model: Path) -> Iterator[ComfyServer]:
    """A ComfyUI whose `local` worker serves the model."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "OVIS_WORKER_URL": f"ws://127.0.0.1:{free_port()}",
            "OVIS_WORKER_BIN": str(binary()),
            "OVIS_WORKER_MODEL": str(model.resolve()),
        }
        comfy = ComfyServer(Path(os.environ["OVIS_COMFYUI"]), Path(folder), environ)
        try:
            yield comfy
        finally:
            with contextlib.suppress(OSError):  # refused where no worker was started
                comfy.post("/ovis-worker/workers/local/stop", {})
            comfy.stop()


def make_thumbnail(
    comfy: ComfyServer, name: str, told: argparse.Namespace, prompts: dict[str, str]
) -> None:
    """Runs one workflow and writes its image as a thumbnail."""
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    graph = on_the_worker(comfy.api_format(workflow))
    for node in graph.values():
        change(node["inputs"], told)
    for id, prompt in by_number(workflow, prompts).items():
        graph[id]["inputs"]["prompt"] = prompt
    run = comfy.run(graph)
    if not run.of("execution_success"):
        raise SystemExit(f"{name}: {run.error or comfy.tail()}")
    (saved,) = run.files("images")
    with Image.open(comfy.base / "output" / saved) as image:
        write_thumbnail(image.convert("RGB"), WORKFLOWS / f"{name}.jpg")


def by_number(workflow: dict, prompts: dict[str, str]) -> dict[str, str]:
    """The prompts by the ids of their nodes."""
    numbers = {node.get("title"): str(node["id"]) for node in workflow["nodes"]}
    return {numbers[title]: prompt for title, prompt in prompts.items()}


def on_the_worker(graph: dict) -> dict:
    """The graph with our VAE nodes in place of the native ones, which know only one geometry."""
    (worker,) = (id for id, node in graph.items() if node["class_type"] == "OvisWorker")
    made = {}
    for id, node in graph.items():
        kind, inputs = node["class_type"], dict(node["inputs"])
        if kind == "VAELoader":
            continue
        if kind in NATIVE_VAE:
            source = inputs.get("samples") or inputs["pixels"]
            ours = "samples" if kind == "VAEDecode" else "image"
            kind, inputs = NATIVE_VAE[kind], {"worker": [worker, 0], ours: source}
        made[id] = {"class_type": kind, "inputs": inputs}
    return made


def change(inputs: dict, told: argparse.Namespace) -> None:
    """Applies the numbers of the command line to the workflow."""
    for name, value in {"steps": told.steps, "cfg": told.cfg}.items():
        if value is not None and isinstance(inputs.get(name), int | float):
            inputs[name] = value
    if told.steps is not None and isinstance(inputs.get("steps"), str):  # the contact sheet's
        inputs["steps"] = f"{max(1, told.steps // 2)}, {told.steps}"
    for name in ("seed", "noise_seed"):
        if name in inputs:
            inputs[name] = told.seed
    if told.megapixels is not None:
        if "megapixels" in inputs:
            inputs["megapixels"] = told.megapixels
            if told.aspect is not None:
                inputs |= {"preset": FREE, "aspect_ratio": told.aspect}
        elif "batch_size" in inputs:  # the native empty latent
            ratio = told.aspect or inputs["width"] / inputs["height"]
            inputs["width"], inputs["height"] = size_of(ratio, told.megapixels)


def write_thumbnail(image: Image.Image, path: Path) -> None:
    """Writes the whole image on a square background."""
    scale = THUMBNAIL / max(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    page = Image.new("RGB", (THUMBNAIL, THUMBNAIL), BACKGROUND)
    corner = [(THUMBNAIL - side) // 2 for side in size]
    page.paste(image.resize(size, Image.Resampling.LANCZOS), corner)
    page.save(path, quality=88, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KB")


def take_screenshot(
    comfy: ComfyServer, locale: str, told: argparse.Namespace, prompts: dict[str, str]
) -> None:
    """Runs the poster workflow in the browser and takes a screenshot of its graph."""
    if not (BROWSER / "node_modules" / "playwright-core").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=BROWSER, check=True)
    workflow = json.loads((WORKFLOWS / f"{SCREENSHOT_OF}.json").read_text(encoding="utf-8"))
    denoise = {"steps": told.steps, "cfg": told.cfg, "seed": told.seed}
    denoise["control_after_generate"] = "fixed"
    size = {"megapixels": told.megapixels, "aspect_ratio": told.aspect}
    size["preset"] = None if told.aspect is None else FREE
    values = {"OvisKSampler": denoise, "OvisEmptyLatent": size}
    with tempfile.TemporaryDirectory() as folder:
        asked = {
            "scenario": "portrait",
            "address": f"http://127.0.0.1:{comfy.port}",
            "screenshots": folder,
            "chromium": os.environ.get("OVIS_CHROMIUM") or shutil.which("chromium"),
            "locale": locale,
            "name": SCREENSHOT_OF,
            "values": {
                kind: {name: value for name, value in inputs.items() if value is not None}
                for kind, inputs in values.items()
            },
            "prompts": by_number(workflow, prompts),
        }
        command = ["node", "run.mjs", json.dumps(asked)]
        subprocess.run(command, cwd=BROWSER, check=True, stdout=subprocess.DEVNULL)
        path = SCREENSHOTS / f"graph-{locale}.jpg"
        with Image.open(Path(folder) / "portrait.png") as shot:
            shot.convert("RGB").save(path, quality=85, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
