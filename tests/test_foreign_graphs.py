"""The pack's scripts change only the pack's own nodes, and nothing else in a graph.

Foreign nodes and graphs are deeply frozen here, so that any write to them raises an error. Every
hook and every event of every script is then tried on them.
"""

from __future__ import annotations

import json
import re

import pytest

from browser_modules import SCRIPTS, evaluate, play
from real_worker import ROOT

LOCALES = ("en", "zh")
OURS = json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8"))
CHINESE = json.loads((ROOT / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))

# Titles of our nodes in one of the languages, or titles that a workflow of ours has had.
NAMES = {
    "Prompt", "提示词", "Negative prompt", "负面提示词", "负向提示词", "Fill in the boxes",
    "填写各栏",
    "What it must not show", "不应出现的内容", "The picture", "原图", "The sheet", "样张页",
    "Soft edges", "柔化边缘", "Where the box stands", "方框的位置", "Ovis Denoise",
    "The part to change: edit, or paint a mask", "要修改的部分：在此编辑，或绘制遮罩",
    "seed", "种子", "free", "自由", "constructor", "__proto__", "toString", "", "My own title",
}  # fmt: skip
TYPES = (
    "KSampler", "CLIPTextEncode", "LoadImage", "SaveImage", "Note", "OvisU1ModelLoader",
    "OvisImage", "OvisDenoise2", "OvisEncodeX", "Ovis", "ovisDenoise", "MyOvisDenoise",
    "constructor", "toString", "1b671a64-40d5-491e-99b0-da01ff1f3341", None,
)  # fmt: skip

FREEZE = """
    const freeze = (value) => {
      if (value && typeof value === "object" && !Object.isFrozen(value)) {
        Object.freeze(value);
        Object.values(value).forEach(freeze);
      }
      return value;
    };
    const forbidden = new Proxy(() => {}, {
      apply() { throw new Error("a foreign node or graph was changed"); },
    });
    const foreign = (type, title, id, more = {}) => freeze({
      id, type, comfyClass: type, title, size: [200, 100], pos: [0, 0], flags: {},
      properties: { "Node name for S&R": type },
      inputs: [{ name: title, label: title, type: "*", link: null }],
      outputs: [{ name: title, label: title, type: "*", links: [] }],
      widgets: ["prompt", "preset", "template", "worker", "$$node-text-preview", title].map(
        (name) => ({ name, label: title, value: title, options: {}, onRemove: forbidden })),
      addWidget: forbidden, addDOMWidget: forbidden, setSize: forbidden, connect: forbidden,
      addInput: forbidden, addOutput: forbidden, removeInput: forbidden,
      ...more,
    });
    const graphOf = (nodes, titles, subgraphs = []) => freeze({
      id: "a graph", name: titles[0], extra: { title: titles[0] },
      _nodes: nodes, nodes, _groups: titles.map((title) => ({ title, color: "#A88" })),
      subgraphs: { values: () => subgraphs.values(), get: () => undefined },
      getNodeById: (id) => nodes.find((node) => node.id === id) ?? null,
      add: forbidden, remove: forbidden, setDirtyCanvas: forbidden,
    });
"""

# The hooks that the scripts have. Call a new one below, as the frontend does.
HOOKS = {"nodeCreated", "afterConfigureGraph", "setup"}


@pytest.mark.parametrize("locale", LOCALES)
def test_no_hook_and_no_event_changes_a_foreign_node_or_graph(locale):
    names = sorted(NAMES | set(evaluate("chinese_names.js", "m.TITLES")))
    told = play(
        FREEZE
        + """
        app.canvas = freeze({ graph: null });
        app.extensionManager = { registerSidebarTab() {} };
        const nodes = told.types.flatMap((type, row) => told.names.map(
          (title, column) => foreign(type, title, row * 1000 + column)));
        const inner = graphOf([foreign("KSampler", "Prompt", 7)], told.names);
        const outer = foreign("1b671a64-40d5-491e-99b0-da01ff1f3341", "提示词", 99_999,
          { subgraph: inner });
        app.graph = app.rootGraph = graphOf([...nodes, outer], told.names, [inner]);
        const whole = () => JSON.stringify([app.graph, inner]);
        const before = whole();
        const tried = new Set();
        for (const extension of extensions) {
          for (const [hook, act] of Object.entries(extension)) {
            if (typeof act !== "function") continue;
            tried.add(hook);
            if (hook === "nodeCreated") {
              for (const node of [...app.graph._nodes, ...inner._nodes]) {
                await act.call(extension, node, app);
              }
            } else if (hook === "setup") await act.call(extension, app);
            else await act.call(extension, [], app);
          }
        }
        const ids = [...nodes.map((node) => node.id), 99_999, "99999:7"];
        for (const [name, heard] of Object.entries(events)) {
          for (const hear of heard) {
            for (const id of ids) {
              for (const text of ["", " ", "Prompt"]) {
                hear({ detail: { node: String(id), nodeId: String(id), text } });
              }
              hear({ detail: String(id) });
            }
            if (name === "executing") hear({ detail: null }); // at the end of a job
          }
        }
        for (const look of globalThis.ovisLooks ?? []) await look();
        await new Promise((resolve) => setTimeout(resolve, 20));
        return { same: whole() === before, tried: [...tried], events: Object.keys(events) };
        """,
        locale=locale,
        names=names,
        types=TYPES,
    )
    assert told["same"]
    assert set(told["tried"]) == HOOKS
    assert {"ovis-worker.text", "executing", "status"} <= set(told["events"])


def test_the_scripts_know_exactly_the_packs_nodes():
    assert set(evaluate("ours.js", "[...m.NODES]")) == set(OURS)
    assert not evaluate("ours.js", f"{json.dumps(TYPES)}.some((t) => m.isOurs({{comfyClass: t}}))")


def test_no_script_takes_nodes_for_ours_by_how_their_names_begin():
    for path in SCRIPTS.glob("*.js"):
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"\^Ovis|startsWith\(\"Ovis|includes\(\"Ovis", source), path.name


OWN = """
    const own = (comfyClass, title, more = {}) => ({
      id: 1, type: comfyClass, comfyClass, title, properties: {}, widgets: [], inputs: [],
      outputs: [], size: [200, 100], graph: null,
      addDOMWidget(name) { const made = { name }; this.widgets.push(made); return made; },
      computeSize: () => [200, 100], setSize(size) { this.size = size; }, setDirtyCanvas() {},
      ...more,
    });
    const openedWith = async (node, saved) => {
      const created = extensions.filter((one) => one.nodeCreated);
      for (const one of created) await one.nodeCreated(node, app);
      if (saved) Object.assign(node, saved);
      if (saved) node.onConfigure?.(saved);
      app.graph = { _nodes: [node], _groups: [], getNodeById: () => node };
      for (const one of extensions) await one.afterConfigureGraph?.([], app);
      return [node.title, node.color, node.bgcolor];
    };
"""


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("node", OURS)
def test_a_title_that_a_user_gave_to_a_node_of_ours_is_kept(locale, node):
    titles = sorted(NAMES | {OURS[node]["display_name"], CHINESE[node]["display_name"]})
    shipped = {"ovis_title": "Negative prompt"}
    seen = play(
        OWN
        + """
        const seen = [];
        for (const title of told.titles) {
          for (const properties of [{}, told.shipped, { ovis_title: "constructor" }]) {
            seen.push((await openedWith(own(told.node, title, { properties })))[0]);
          }
        }
        return seen;
        """,
        locale=locale,
        node=node,
        titles=titles,
        shipped=shipped,
    )
    meant = "负面提示词" if locale == "zh" else "Negative prompt"
    for title, (plain, marked, odd) in zip(
        titles, zip(*[iter(seen)] * 3, strict=True), strict=True
    ):
        assert plain == title and odd == title
        # Only if it is exactly the title that the workflow was published with.
        names = ("Negative prompt", "负面提示词", "负向提示词")
        assert marked == (meant if title in names else title)


@pytest.mark.parametrize("node", OURS)
def test_a_nodes_saved_colours_are_kept_also_when_there_are_none(node):
    new, red, half, bare = play(
        OWN
        + """
        const colours = async (saved) => (await openedWith(own(told.node, "x"), saved)).slice(1);
        return [await colours(null), await colours({ color: "#322", bgcolor: "#533" }),
          await colours({ color: "#322" }), await colours({})];
        """,
        node=node,
    )
    assert new == ["#23395b", "#2b3444"]
    assert red == ["#322", "#533"] and half == ["#322", None] and bare == [None, None]
