// One colour for all of the pack's nodes, so that they are found in a large graph.
// A graph that was saved with other colours keeps them.

import { app } from "../../../scripts/app.js";

const TITLE = "#23395b";
const BODY = "#2b3444";

app.registerExtension({
  name: "ovis-worker.colours",
  nodeCreated(node) {
    if (!/^Ovis[A-Z]/.test(node.comfyClass ?? "")) return;
    node.color ??= TITLE;
    node.bgcolor ??= BODY;
  },
});
