// Ovis Empty Latent: presets move the slider, and a rectangle shows the resulting size.

import { app } from "../../../scripts/app.js";
import { addPanel, fit, onChange, widgetOf } from "./panel.js";
import { exactSize, FREE, MEGAPIXEL, PRESETS, ratioOf, sizeOf } from "./sizes.js";
import { text } from "./texts.js";

const NODE = "OvisEmptyLatent";
const PANEL = "ovis_size";
const HEIGHT = 132;
const SVG = "http://www.w3.org/2000/svg";

/** Draws a rectangle with the aspect ratio and area of the node's current values. */
class Sketch {
  constructor() {
    this.element = document.createElement("div");
    this.element.className = "ovis-size";
    this.element.style.cssText =
      "display:flex;flex-direction:column;align-items:center;gap:4px;overflow:hidden;" +
      "pointer-events:none;font:12px sans-serif;color:var(--input-text,#ddd)";
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "-100 -50 200 100");
    svg.style.cssText = "width:100%;flex:1;min-height:0";
    this.box = document.createElementNS(SVG, "rect");
    this.box.setAttribute("rx", "2");
    this.box.style.cssText =
      "fill:#4a7dff33;stroke:#6f9bff;stroke-width:1.5;vector-effect:non-scaling-stroke";
    svg.append(this.box);
    this.line = document.createElement("div");
    this.line.className = "ovis-size-line";
    this.element.append(svg, this.line);
  }

  show([width, height]) {
    // The area is proportional to the megapixels, as far as it fits into the view box.
    const side = (pixels) => (pixels / 4096) * 196;
    const scale = Math.min(2, 96 / side(height), 196 / side(width));
    const [w, h] = [side(width) * scale, side(height) * scale];
    for (const [key, value] of Object.entries({ x: -w / 2, y: -h / 2, width: w, height: h })) {
      this.box.setAttribute(key, value.toFixed(2));
    }
    this.line.textContent = text(
      "size.line", width, height, ((width * height) / MEGAPIXEL).toFixed(2));
  }
}

function setUp(node) {
  const [ratio, area, preset, wide, high] = [
    "aspect_ratio", "megapixels", "preset", "width", "height",
  ].map((name) => widgetOf(node, name));
  if (!ratio || !area) return;
  const sketch = new Sketch();
  const draw = () => {
    const shape = ratioOf(preset?.value, ratio.value);
    const exact = wide?.value || high?.value;
    sketch.show(exact ? exactSize(wide.value, high.value, shape) : sizeOf(shape, area.value));
  };
  addPanel(node, PANEL, sketch.element, () => HEIGHT);
  onChange(ratio, (value) => {
    const chosen = PRESETS[preset?.value];
    // The slider rounds the preset's ratio, so only a larger difference is the user's change.
    if (chosen !== undefined && Math.abs(chosen - value) > 0.006) preset.value = FREE;
    draw();
  });
  for (const widget of [area, wide, high]) if (widget) onChange(widget, draw);
  if (preset) {
    onChange(preset, (value) => {
      if (PRESETS[value] !== undefined) ratio.value = Math.round(PRESETS[value] * 1000) / 1000;
      draw();
      node.setDirtyCanvas?.(true, true);
    });
  }
  const configured = node.onConfigure;
  node.onConfigure = function (...args) {
    configured?.apply(this, args);
    draw();
    fit(node);
  };
  draw();
  fit(node);
}

app.registerExtension({
  name: "ovis-worker.empty-latent",
  nodeCreated(node) {
    if (node.comfyClass === NODE) setUp(node);
  },
});
