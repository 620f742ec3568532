// Ovis Before/After: moving the pointer wipes from the first image to the second.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { addPanel, fit, html } from "./panel.js";
import { text } from "./texts.js";

const NODE = "OvisCompare";
const MIN_HEIGHT = 240;
const FILL = "position:absolute;inset:0;width:100%;height:100%;object-fit:contain";

function urlOf(file) {
  const where = new URLSearchParams({
    filename: file.filename, subfolder: file.subfolder ?? "", type: file.type ?? "temp" });
  return api.apiURL(`/view?${where}`);
}

class Wipe {
  constructor() {
    this.before = html("img", { draggable: false, alt: "" });
    this.after = html("img", { draggable: false, alt: "" });
    this.line = html("div");
    this.hint = html("div", { textContent: text("compare.hint") });
    this.element = html(
      "div", { className: "ovis-compare" }, this.before, this.after, this.line, this.hint);
    this.element.style.cssText =
      "position:relative;height:100%;overflow:hidden;border-radius:4px;background:#0003";
    this.before.style.cssText = this.after.style.cssText = `${FILL};display:none`;
    this.line.style.cssText =
      "position:absolute;top:0;bottom:0;width:2px;margin-left:-1px;background:#fff;" +
      "box-shadow:0 0 4px #000;display:none;pointer-events:none";
    this.hint.style.cssText =
      "position:absolute;inset:0;display:flex;align-items:center;justify-content:center;" +
      "font:12px sans-serif;color:var(--descrip-text,#999)";
    this.element.addEventListener("pointermove", (event) => {
      const box = this.element.getBoundingClientRect();
      this.wipe((event.clientX - box.left) / box.width);
    });
    this.element.addEventListener("pointerleave", () => this.wipe(0.5));
  }

  show([before, after]) {
    this.before.src = urlOf(before);
    this.after.src = urlOf(after);
    for (const part of [this.before, this.after, this.line]) part.style.display = "block";
    this.hint.style.display = "none";
    this.wipe(0.5);
  }

  /** Shows the second image to the right of `fraction` of the width. */
  wipe(fraction) {
    const percent = Math.min(1, Math.max(0, fraction)) * 100;
    this.after.style.clipPath = `inset(0 0 0 ${percent}%)`;
    this.line.style.left = `${percent}%`;
  }
}

app.registerExtension({
  name: "ovis-worker.compare",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const wipe = new Wipe();
    addPanel(node, "ovis_compare", wipe.element, () => MIN_HEIGHT, true);
    fit(node);
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.apply(this, arguments);
      if (output?.ovis_compare?.length === 2) wipe.show(output.ovis_compare);
    };
  },
});
