// Gives all of the pack's nodes one colour, so that they stand out in a large graph. A graph
// that was saved with other colours, or with none, keeps them.

import { app } from "../../../scripts/app.js";
import { isOurs } from "./ours.js";

const COLOURS = { color: "#23395b", bgcolor: "#2b3444" };

app.registerExtension({
  name: "ovis-worker.colours",
  nodeCreated(node) {
    if (!isOurs(node)) return;
    for (const [name, colour] of Object.entries(COLOURS)) node[name] ??= colour;
    const configured = node.onConfigure;
    node.onConfigure = function (saved, ...args) {
      configured?.call(this, saved, ...args);
      for (const name of Object.keys(COLOURS)) {
        if (saved[name] === undefined) this[name] = undefined;
      }
    };
  },
});
