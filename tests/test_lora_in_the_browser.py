"""The browser script of Ovis LoRA: chooser, hash, picture, trigger words, and what is missing."""

from __future__ import annotations

import pytest

from browser_modules import play

LISTED = [
    {
        "name": "b.safetensors", "hash": "b" * 64, "title": "", "triggers": [],
        "has_picture": False,
    },
    {
        "name": "a.safetensors", "hash": "a" * 64, "title": "A", "triggers": ["neon", "glow"],
        "has_picture": True,
    },
]  # fmt: skip

STORY = """
    const asked = [];
    globalThis.ovisAnswer = async (path) => {
      asked.push(path);
      if (told.away) throw new Error("away");
      return { ok: true, text: async () => JSON.stringify({ adapters: told.listed }) };
    };
    await load("lora_node.js");
    const worker = { comfyClass: "OvisWorker", widgets: [{ name: "worker", value: "studio" }] };
    const widgets = [
      { name: "adapter", value: told.saved, options: { values: [""] } },
      { name: "hash", value: told.hash ?? "" },
    ];
    let panel;
    const node = {
      comfyClass: "OvisLora", widgets, size: [300, 100], graph: { _nodes: [worker] },
      addDOMWidget: (name, type, element) => (panel = { name, element }),
      computeSize: () => [300, 100], setSize(size) { this.size = size; },
    };
    for (const extension of extensions) extension.nodeCreated?.(node);
    const settled = () => new Promise((done) => setTimeout(done, 20));
    await settled();
    if (told.choose !== undefined) {
      widgets[0].value = told.choose;
      widgets[0].callback?.(told.choose);
      await settled();
    }
    const [picture, words] = panel.element.children;
    return {
      asked, options: widgets[0].options.values, hash: widgets[1].value,
      hidden: widgets[1].hidden, words: words.textContent, picture: picture.src ?? "",
    };
"""


def shown(**told: object) -> dict:
    return play(STORY, listed=LISTED, **told)


def test_the_chooser_lists_the_adapters_of_the_graphs_worker() -> None:
    found = shown(saved="")
    assert found["asked"] == ["/ovis-worker/workers/studio/adapters"]
    assert found["options"] == ["", "b.safetensors", "a.safetensors"]
    assert (found["words"], found["hash"], found["hidden"]) == ("", "", True)


def test_a_chosen_adapter_shows_itself_and_leaves_its_hash() -> None:
    found = shown(saved="", choose="a.safetensors")
    assert found["hash"] == "a" * 64
    assert found["words"] == "A\nTrigger words: neon, glow"
    assert "/workers/studio/adapters/picture?name=a.safetensors" in found["picture"]
    found = shown(saved="a.safetensors", hash="a" * 64, choose="")
    assert (found["hash"], found["words"]) == ("", "")


@pytest.mark.parametrize(
    ("saved", "hash", "words"),
    [
        ("c.safetensors", "c" * 64, "Missing: c.safetensors."),
        ("b.safetensors", "c" * 64, "is another file than the workflow's"),
    ],
)
def test_a_colleague_sees_what_is_missing(saved: str, hash: str, words: str) -> None:
    found = shown(saved=saved, hash=hash)
    assert words in found["words"] and found["hash"] == hash
    assert saved in found["options"], "the saved name stays"


def test_a_worker_that_is_away_leaves_the_graph_as_it_is() -> None:
    found = shown(saved="c.safetensors", hash="c" * 64, away=True)
    assert (found["hash"], found["options"]) == ("c" * 64, [""])
    assert "away" in found["words"]
