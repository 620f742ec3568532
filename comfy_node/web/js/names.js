// Names in the user's language that ComfyUI's own translations do not cover: the options of
// this pack's combos (older frontends cannot translate them), and the titles of this pack's
// nodes in the shipped workflows.

import { app } from "../../../scripts/app.js";
import { EARLIER_TITLES, OPTIONS, TITLES } from "./chinese_names.js";
import { isOurs } from "./ours.js";
import { widgetOf } from "./panel.js";
import { language } from "./texts.js";

/** The node property in which a shipped workflow stores the English title. */
const TITLE_PROPERTY = "ovis_title";

/**
 * The title of one of this pack's nodes in the user's language. Only a title that a shipped
 * workflow gave to this very node is translated; a title that a user typed is kept, even if
 * the words are the same.
 */
function titleOf(node) {
  const english = node.properties?.[TITLE_PROPERTY];
  const chinese = Object.hasOwn(TITLES, english) ? TITLES[english] : undefined;
  const shipped = [english, chinese, EARLIER_TITLES[english] ?? english];
  if (!chinese || !shipped.includes(node.title)) return node.title;
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
