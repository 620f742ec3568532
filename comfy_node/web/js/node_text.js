// Messages of a running node, such as how many tokens of a prompt were cut. They are shown on a
// panel of the pack's own, because newer frontends clear ComfyUI's text preview when a job ends
// and older ones never clear it. The panel stays until the node runs again or one of the widgets
// that the message concerns changes. It is not saved in the workflow.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { pollWhilePresent } from "./ask.js";
import { isOurs } from "./ours.js";
import { html, LinesPanel, widgetOf } from "./panel.js";

/** The websocket event that carries the messages; `comfy_node/nodes/jobs.py` sends it. */
const EVENT = "ovis-worker.text";
const POLL_MILLISECONDS = 500;
/** The widgets that a node's messages concern; messages of other nodes end with the job. */
const WIDGETS = {
  OvisEncode: ["prompt", "max_sequence_length"],
  OvisPromptTemplate: ["template", "headline", "style", "subject", "colours"],
};

const panels = new WeakMap();

/** One of the pack's nodes by its id, or by its path through subgraphs, such as `3:7`. */
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
    pollWhilePresent(node, POLL_MILLISECONDS, () => this.update());
  }

  /** The current values of those widgets, for comparison. */
  widgetValues() {
    const names = WIDGETS[this.node.comfyClass] ?? [];
    return JSON.stringify(names.map((name) => widgetOf(this.node, name)?.value));
  }

  show(text) {
    this.shownFor = this.widgetValues();
    if (text === this.text) return; // the message and the kept output of a node say the same
    this.text = text;
    const lines = text.split("\n").filter((line) => line.trim());
    const elements = lines.map((line) => html("div", { className: "ovis-text-line" }, line));
    this.panel.show(...elements);
  }

  update() {
    if (this.shownFor !== undefined && this.shownFor !== this.widgetValues()) this.show("");
    this.panel.measure();
  }
}

/** Shows a message on a node; an empty text removes the message that was there. */
function showOn(id, text) {
  const node = nodeOf(id);
  if (!node || !(text || panels.has(node))) return;
  if (!panels.has(node)) panels.set(node, new TextPanel(node));
  panels.get(node).show(text);
}

app.registerExtension({
  name: "ovis-worker.node-text",
  setup() {
    api.addEventListener(EVENT, ({ detail }) => showOn(detail.node, detail.text));
    // A page that was reloaded gets the outputs again that ComfyUI has kept of a node.
    api.addEventListener("executed", ({ detail }) => {
      const lines = detail?.output?.ovis_text;
      if (lines) showOn(detail.display_node ?? detail.node, lines.join("\n"));
    });
    // The node runs again. At the end of a job, `detail` is null.
    api.addEventListener("executing", ({ detail }) => {
      if (detail != null) showOn(detail, "");
    });
  },
});
