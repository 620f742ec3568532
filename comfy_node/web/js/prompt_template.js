// Ovis Prompt Template: shows the full prompt, as the worker will receive it, below the boxes.

import { app } from "../../../scripts/app.js";
import { post, pollWhilePresent } from "./ask.js";
import { addPanel, fit, html, widgetOf } from "./panel.js";

const NODE = "OvisPromptTemplate";
const BOXES = ["headline", "style", "subject", "colours"];
const POLL_MILLISECONDS = 500;
const HEIGHT = 110;

/** The contents of the boxes, or null if one of them is connected to another node. */
function boxesOf(node) {
  const linked = node.inputs?.some((input) => BOXES.includes(input.name) && input.link != null);
  if (linked) return null;
  return Object.fromEntries(BOXES.map((box) => [box, String(widgetOf(node, box)?.value ?? "")]));
}

function setUp(node) {
  const preview = html("div", { className: "ovis-composed" });
  preview.style.cssText =
    `height:100%;max-height:${HEIGHT}px;overflow-y:auto;white-space:pre-wrap;padding:6px;` +
    "box-sizing:border-box;" +
    "border-radius:4px;background:#0003;font:12px/1.4 sans-serif;color:var(--descrip-text,#999)";
  addPanel(node, "ovis_composed", preview, () => HEIGHT);
  fit(node);
  let key;
  pollWhilePresent(node, POLL_MILLISECONDS, async () => {
    const request = { template: widgetOf(node, "template")?.value, boxes: boxesOf(node) };
    const now = JSON.stringify(request);
    if (now === key) return;
    key = now;
    node.ovisPrompt = "";
    preview.textContent = "";
    if (request.boxes === null) return;
    try {
      const { prompt, problems } = await post("compose", request);
      if (now !== key) return;
      node.ovisPrompt = prompt;
      preview.textContent = [prompt, ...problems].join("\n\n");
    } catch (problem) {
      preview.textContent = problem.message;
    }
  });
}

app.registerExtension({
  name: "ovis-worker.prompt-template",
  nodeCreated(node) {
    if (node.comfyClass === NODE) setUp(node);
  },
});
