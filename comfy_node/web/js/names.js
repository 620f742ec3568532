// Names in the reader's language, where ComfyUI's own translations do not reach: the options
// of our combos (older frontends have no way to name them), and the titles of nodes and
// groups in the shipped workflows.

import { app } from "../../../scripts/app.js";
import { OPTIONS, TITLES } from "./chinese_names.js";
import { widgetOf } from "./panel.js";
import { language } from "./texts.js";

const TO_CHINESE = new Map(Object.entries(TITLES));
const TO_ENGLISH = new Map([...TO_CHINESE].map(([english, chinese]) => [chinese, english]));

app.registerExtension({
  name: "ovis-worker.names",
  nodeCreated(node) {
    if (language() !== "zh") return;
    for (const [name, options] of Object.entries(OPTIONS[node.comfyClass] ?? {})) {
      const labels = new Map(Object.entries(options));
      const widget = widgetOf(node, name);
      if (widget) widget.options.getOptionLabel = (value) => labels.get(value) ?? value ?? "";
    }
  },
  afterConfigureGraph() {
    // A title that someone wrote is not in either list, and stays.
    const titles = language() === "zh" ? TO_CHINESE : TO_ENGLISH;
    for (const graph of [app.graph, ...(app.graph.subgraphs?.values() ?? [])]) {
      for (const one of [...graph._nodes, ...graph._groups]) {
        one.title = titles.get(one.title) ?? one.title;
      }
    }
  },
});
