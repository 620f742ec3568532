// Names in the reader's language, where ComfyUI's own translations do not reach: the options
// of our combos (older frontends have no way to name them), and the titles that our own nodes
// have in the shipped workflows.

import { app } from "../../../scripts/app.js";
import { OPTIONS, TITLES } from "./chinese_names.js";
import { isOurs } from "./ours.js";
import { widgetOf } from "./panel.js";
import { language } from "./texts.js";

/** The property in which a shipped workflow keeps a node's English title. */
const SHIPPED = "ovis_title";

/**
 * The title of one of our nodes in the reader's language. It stays as it is, unless it is
 * the one that a shipped workflow gave to this very node: a title that someone wrote is kept,
 * also where it says the same.
 */
function titleOf(node) {
  const english = node.properties?.[SHIPPED];
  const chinese = Object.hasOwn(TITLES, english) ? TITLES[english] : undefined;
  if (!chinese || ![english, chinese].includes(node.title)) return node.title;
  return language() === "zh" ? chinese : english;
}

app.registerExtension({
  name: "ovis-worker.names",
  nodeCreated(node) {
    if (!isOurs(node) || language() !== "zh") return;
    for (const [name, options] of Object.entries(OPTIONS[node.comfyClass] ?? {})) {
      const labels = new Map(Object.entries(options));
      const widget = widgetOf(node, name);
      if (widget) widget.options.getOptionLabel = (value) => labels.get(value) ?? value ?? "";
    }
  },
  afterConfigureGraph() {
    const root = app.rootGraph ?? app.graph;
    for (const graph of [root, ...(root.subgraphs?.values() ?? [])]) {
      for (const node of graph._nodes.filter(isOurs)) {
        const title = titleOf(node);
        if (title !== node.title) node.title = title;
      }
    }
  },
});
