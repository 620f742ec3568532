// What a node of ours says when it runs, such as how many tokens of a prompt were cut. It
// stands on a panel of our own: ComfyUI's text preview is cleared when a job ends, by newer
// frontends, and kept for ever by older ones. The panel stays until the node runs again or
// what it is about changes, and is no part of the workflow.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { whileThere } from "./ask.js";
import { isOurs } from "./ours.js";
import { html, LinesPanel, widgetOf } from "./panel.js";

/** The pack's own message; `comfy_node/nodes/jobs.py` sends it. */
const MESSAGE = "ovis-worker.text";
const LOOK_MILLISECONDS = 500;
/** The widgets that a node's texts are about, where they outlive the job. */
const ABOUT = {
  OvisEncode: ["prompt", "max_sequence_length"],
  OvisPromptTemplate: ["template", "headline", "style", "subject", "colours"],
};

const panels = new WeakMap();

/** A node of ours by its number, or by its way through subgraphs, `3:7`. */
function nodeOf(id) {
  let graph = app.rootGraph ?? app.graph;
  let node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return isOurs(node) ? node : null;
}

class TextPanel {
  constructor(node) {
    this.node = node;
    this.panel = new LinesPanel(node, "ovis_text", "ovis-text");
    whileThere(node, LOOK_MILLISECONDS, () => this.look());
  }

  about() {
    const names = ABOUT[this.node.comfyClass] ?? [];
    return JSON.stringify(names.map((name) => widgetOf(this.node, name)?.value));
  }

  say(text) {
    this.said = this.about();
    const lines = text.split("\n").filter((line) => line.trim());
    const elements = lines.map((line) => html("div", { className: "ovis-text-line" }, line));
    this.panel.show(...elements);
  }

  look() {
    if (this.said !== undefined && this.said !== this.about()) this.say("");
    this.panel.measure();
  }
}

/** Shows a text on a node; an empty one takes away what was there. */
function say(id, text) {
  const node = nodeOf(id);
  if (!node || !(text || panels.has(node))) return;
  if (!panels.has(node)) panels.set(node, new TextPanel(node));
  panels.get(node).say(text);
}

app.registerExtension({
  name: "ovis-worker.node-text",
  setup() {
    api.addEventListener(MESSAGE, ({ detail }) => say(detail.node, detail.text));
    // The node runs again. At the end of a job there is no number.
    api.addEventListener("executing", ({ detail }) => {
      if (detail != null) say(detail, "");
    });
  },
});
