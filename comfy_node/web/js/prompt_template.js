// Ovis Prompt Template: the full prompt, as the worker will get it, below the boxes.

import { app } from "../../../scripts/app.js";
import { post, whileThere } from "./ask.js";
import { addPanel, fit, html, widgetOf } from "./panel.js";

const NODE = "OvisPromptTemplate";
const BOXES = ["headline", "style", "subject", "colours"];
const LOOK_MILLISECONDS = 500;
const HEIGHT = 110;

/** What stands in the boxes; nothing when one of them comes from another node. */
function boxesOf(node) {
  const linked = node.inputs?.some((input) => BOXES.includes(input.name) && input.link != null);
  if (linked) return null;
  return Object.fromEntries(BOXES.map((box) => [box, String(widgetOf(node, box)?.value ?? "")]));
}

function setUp(node) {
  const words = html("div", { className: "ovis-composed" });
  words.style.cssText =
    `height:100%;max-height:${HEIGHT}px;overflow-y:auto;white-space:pre-wrap;padding:6px;` +
    "box-sizing:border-box;" +
    "border-radius:4px;background:#0003;font:12px/1.4 sans-serif;color:var(--descrip-text,#999)";
  addPanel(node, "ovis_composed", words, () => HEIGHT);
  fit(node);
  let key;
  whileThere(node, LOOK_MILLISECONDS, async () => {
    const asked = { template: widgetOf(node, "template")?.value, boxes: boxesOf(node) };
    const now = JSON.stringify(asked);
    if (now === key) return;
    key = now;
    node.ovisPrompt = "";
    words.textContent = "";
    if (asked.boxes === null) return;
    try {
      const { prompt, problems } = await post("compose", asked);
      if (now !== key) return;
      node.ovisPrompt = prompt;
      words.textContent = [prompt, ...problems].join("\n\n");
    } catch (problem) {
      words.textContent = problem.message;
    }
  });
}

app.registerExtension({
  name: "ovis-worker.prompt-template",
  nodeCreated(node) {
    if (node.comfyClass === NODE) setUp(node);
  },
});
