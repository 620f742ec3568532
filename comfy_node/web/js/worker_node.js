// Ovis Worker: shows the worker's status on the node.

import { app } from "../../../scripts/app.js";
import { pollWhilePresent } from "./ask.js";
import { addPanel, fit, html, onChange, widgetOf } from "./panel.js";
import {
  activityOf, colourOf, memoryOf, paceOf, restartOf, stateOf, statusOf,
} from "./worker_status.js";

const NODE = "OvisWorker";
const POLL_MILLISECONDS = 2000;
const HEIGHT = 58;

const DEFAULT_MODEL = "default"; // the value for the worker's first model, whatever its name is

/** Lists the worker's models; a saved name stays, also while the worker is away. */
function listModels(widget, status) {
  if (!widget || !status.models?.length) return;
  const names = [DEFAULT_MODEL, ...status.models.filter((name) => name !== DEFAULT_MODEL)];
  if (!names.includes(widget.value)) names.push(widget.value);
  if (names.join() === widget.options.values?.join()) return;
  widget.options.values = names;
}

function setUp(node) {
  const label = widgetOf(node, "worker");
  if (!label) return;
  const dot = html("span");
  dot.style.cssText = "flex:none;width:9px;height:9px;border-radius:50%;background:#8a8a8a";
  const first = html("div");
  const second = html("div");
  const lines = html("div", {}, first, second);
  lines.style.cssText = "overflow:hidden;white-space:nowrap;min-width:0";
  for (const line of [first, second]) {
    line.style.cssText = "overflow:hidden;text-overflow:ellipsis";
  }
  second.style.color = "var(--descrip-text,#999)";
  const element = html("div", { className: "ovis-worker-line" }, dot, lines);
  element.style.cssText =
    "display:flex;align-items:center;gap:8px;overflow:hidden;font:12px/1.5 sans-serif;" +
    "min-height:36px;" + // both lines, also where the node is as high as its content
    "color:var(--input-text,#ddd)";
  addPanel(node, "ovis_worker_status", element, () => HEIGHT);
  fit(node);

  const update = async () => {
    const requested = label.value;
    const status = await statusOf(requested);
    if (requested !== label.value) return;
    listModels(widgetOf(node, "model"), status);
    dot.style.background = colourOf(status);
    first.textContent = [stateOf(status), activityOf(status), paceOf(status)]
      .filter(Boolean).join(" · ");
    second.textContent =
      [status.model, status.device, status.precision, memoryOf(status)]
        .filter(Boolean).join(" · ") || status.problem?.split("\n")[0] || "";
    if (status.restart_needed) second.textContent = restartOf(status);
    element.title = [status.problem, restartOf(status)].filter(Boolean).join("\n");
  };
  onChange(label, update);
  pollWhilePresent(node, POLL_MILLISECONDS, update);
  update();
}

app.registerExtension({
  name: "ovis-worker.worker",
  nodeCreated(node) {
    if (node.comfyClass === NODE) setUp(node);
  },
});
