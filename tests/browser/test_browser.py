"""The node pack in ComfyUI's own frontend, in a real browser.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout and node, npm and Chromium are installed
(``OVIS_CHROMIUM`` names Chromium if it is not found). ``OVIS_SCREENSHOTS`` names a folder for
screenshots.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fake_worker import FakeWorker
from real_comfyui import SETTINGS, WORKFLOWS, comfy, graph, undecoded

FIXTURES = (comfy,)  # pytest finds it by name
HERE = Path(__file__).parent
SCENARIO_SECONDS = 400
CHROMIUM = os.environ.get("OVIS_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
MISSING = [
    name
    for name, found in {
        "node": shutil.which("node"),
        "npm": shutil.which("npm"),
        "Chromium": CHROMIUM,
    }.items()
    if not found
]

if MISSING:
    SKIPPED = f"SKIPPED: nothing was tried in a browser, because there is no {MISSING[0]}."
    warnings.warn(SKIPPED, stacklevel=1)
    pytest.skip(SKIPPED, allow_module_level=True)


def play(asked: dict, comfy) -> dict:
    """Plays a scenario of a ComfyUI in the browser and returns what it observed."""
    if not (HERE / "node_modules" / "playwright-core").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    command = ["node", "run.mjs", json.dumps(asked)]
    done = subprocess.run(
        command, cwd=HERE, capture_output=True, text=True, timeout=SCENARIO_SECONDS
    )
    assert done.returncode == 0, f"{done.stderr}\nSee {asked['screenshots']}.\n{comfy.tail()}"
    answer = json.loads(done.stdout)
    assert answer["problems"] == []
    return answer["seen"]


@pytest.fixture(scope="module")
def act(comfy, tmp_path_factory):
    """Plays a scenario of ``scenarios.mjs`` and returns what it observed."""
    kept = os.environ.get("OVIS_SCREENSHOTS")

    def told(scenario: str, **told: object) -> dict:
        screenshots = Path(kept) if kept else tmp_path_factory.mktemp("screenshots")
        screenshots = screenshots / str(told.get("locale", "en"))
        screenshots.mkdir(parents=True, exist_ok=True)
        asked = {
            "scenario": scenario,
            "address": f"http://127.0.0.1:{comfy.port}",
            "screenshots": str(screenshots),
            "chromium": CHROMIUM,
            **told,
        }
        return play(asked, comfy)

    return told


def pixels(comfy, saved: dict) -> np.ndarray:
    with Image.open(comfy.base / "output" / saved["subfolder"] / saved["filename"]) as image:
        return np.asarray(image.convert("RGB"))


def without_seeds(prompt: dict) -> dict:
    """A prompt without the metadata that the frontend adds to nodes, and without an adapter's hash,
    which the page fills in where it is empty."""
    return {
        id: {
            "class_type": node["class_type"],
            "inputs": {name: value for name, value in node["inputs"].items() if name != "hash"},
        }
        for id, node in prompt.items()
    }


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_from_the_template_browser_to_its_png_and_back(comfy, act, path):
    seen = act("workflow", name=path.stem)
    assert seen["opened"] == {"missing": [], "red": [], "dialogs": []}
    assert seen["after"] != seen["before"]
    first, second = seen["first"], seen["second"]
    assert first["end"] == "execution_success", first["error"]
    assert first["progress"] and 0 < first["drawn"] <= 1
    assert first["previews"] > 0
    assert seen["shown"] == 1
    assert seen["said"] == []
    assert seen["done"] == {"missing": [], "red": [], "dialogs": []}
    assert without_seeds(seen["reloaded"]) == without_seeds(seen["queued"])
    assert second["end"] == "execution_success", second["error"]
    assert second["progress"], "it was not made anew"
    assert first["saved"]["filename"] != second["saved"]["filename"]
    image = pixels(comfy, first["saved"])
    assert image.std() > 0
    assert np.array_equal(image, pixels(comfy, second["saved"]))


def test_cancel_frees_the_worker_within_a_step(comfy, act):
    seen = act("interrupt", worker=f"http://127.0.0.1:{comfy.worker_port}")
    assert seen["running"] == 1
    assert seen["seen"]["end"] == "execution_interrupted"
    # The step that was running when the interrupt flag was read, which happens 20 times a second.
    assert seen["stepsAtEnd"] - seen["stepsAtClick"] <= 1
    assert seen["seen"]["progress"][-1][0] < 100


def test_panels_advice_and_sidebar(comfy, act):
    seen = act("designer")
    assert seen["start"] == "1024 × 1024 px · 1.00 MP"
    assert seen["ratio"] == 4 and seen["wide"].startswith("2048 × 512 px")
    assert seen["storyRatio"] == pytest.approx(0.563, abs=0.001)
    assert seen["story"].startswith("768 × 1360 px")
    assert seen["presetAfterDrag"] == "free"
    assert any("full-width" in line for line in seen["advice"])
    assert any("set steps to 60" in line for line in seen["advice"])
    assert any("cfg 9 is high" in line for line in seen["advice"])
    assert seen["fixed"] == 'A price tag that reads "＄5" in vertical text'
    assert not any("full-width" in line for line in seen["adviceAfter"])
    assert [card.split("\n")[0] for card in seen["cards"]] == ["local", "full"]


def test_a_worker_is_described_in_the_settings_dialog_and_used(comfy, act):
    with FakeWorker() as worker:
        url, token = f"ws://127.0.0.1:{worker.port}", "a-secret-that-is-never-shown"
        seen = act("settings", url=url, token=token)
    assert seen["offered"] == ["local", "full", "studio"]
    assert "no model" in seen["line"]
    assert not seen["shown"] and not seen["saved"]
    settings = comfy.base / SETTINGS
    described = json.loads(settings.read_text())["workers"]
    assert described["studio"] == {"url": url, "token": token}
    served = comfy.base / "user" / "default"
    assert token not in (served / "comfy.settings.json").read_text()
    assert not (served / "ovis_worker.json").exists()
    assert act("forget", label="studio") == ["local", "full", "Add a worker"]
    assert "studio" not in json.loads(settings.read_text())["workers"]


def test_a_running_worker_is_restarted_for_settings_that_have_changed(comfy, act):
    assert comfy.run(undecoded(graph(worker__worker="full"))).of("execution_success")
    note = (comfy.base / SETTINGS).parent / "ovis_worker_full.pid"
    first = json.loads(note.read_text())["pid"]
    seen = act("outdated", label="full", token="another-secret")
    assert seen["said"].startswith("Saved. It still runs with its previous settings.")
    assert seen["offered"] == 0
    made = undecoded(graph(worker__worker="full", denoise__seed=401))
    assert comfy.run(made).of("execution_success")
    assert json.loads(note.read_text())["pid"] != first


def test_every_node_speaks_chinese(comfy, act):
    texts = json.loads((HERE.parents[1] / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))
    seen = act("titles", locale="zh", names=list(texts))
    assert all(re.search("[\u4e00-\u9fff]", title) for title in seen["loaded"]), seen["loaded"]
    names_options = comfy.version >= (0, 18)
    assert seen["template"] == ["海报" if names_options else "poster", "poster"]
    for node, (title, *widgets) in zip(texts.values(), seen["nodes"], strict=True):
        assert title == node["display_name"]
        names = {text["name"] for text in node["inputs"].values()}
        translated = [name for name in widgets if not name.startswith("ovis_")]
        assert set(translated) - names <= {"control_after_generate", "生成后控制"}


@pytest.mark.parametrize(("locale", "words"), [("zh", "此处没有设置它"), ("en", "not set up here")])
def test_what_went_wrong_is_said_in_the_pages_language(act, locale, words):
    seen = act("refused", locale=locale)
    assert seen["end"] == "execution_error"
    assert words in seen["error"] and words in seen["line"]
