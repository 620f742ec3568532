// Takes a text away from a node once the node has nothing more to say. ComfyUI's frontend
// shows texts that arrive while a node runs, but has no word for the end of one: the pack
// sends a blank.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const WIDGET = "$$node-text-preview";

/** A node by its number, or by its way through subgraphs, `3:7`. */
function nodeOf(id) {
  let graph = app.graph;
  let node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return node;
}

function clear(id) {
  const node = nodeOf(id);
  const place = node?.widgets?.findIndex((widget) => widget.name === WIDGET) ?? -1;
  if (place < 0) return;
  node.widgets[place].onRemove?.();
  node.widgets.splice(place, 1);
  node.setDirtyCanvas?.(true, true);
}

app.registerExtension({
  name: "ovis-worker.node-text",
  setup() {
    api.addEventListener("progress_text", ({ detail }) => {
      // After the frontend, which shows the blank first.
      if (!detail.text?.trim()) setTimeout(() => clear(detail.nodeId));
    });
  },
});
