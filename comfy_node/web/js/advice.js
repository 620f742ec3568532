// Shows prompt advice on the node it concerns, while the prompt is being typed.

import { app } from "../../../scripts/app.js";
import { post, pollWhilePresent } from "./ask.js";
import { html, LinesPanel, widgetOf } from "./panel.js";
import { language, text } from "./texts.js";

const POLL_MILLISECONDS = 700;
const DENOISE = new Set([
  "OvisKSampler", "OvisKSamplerAdvanced", "OvisContactSheet",
  "OvisDenoise", "OvisDenoiseAdvanced", // the first forms of the two above
]);
/** Rules about sampling settings; their advice appears on the node that denoises. */
const SAMPLING_RULES = new Set(["vertical", "guidance"]);

/** The node connected to the input called `name`. */
function sourceOf(node, name) {
  const slot = node.inputs?.findIndex((input) => input.name === name) ?? -1;
  return slot >= 0 && node.inputs[slot].link != null ? node.getInputNode(slot) : null;
}

/** The prompt of an encode node: its own or its template's; empty if it is not known. */
function promptOf(encode) {
  if (encode?.comfyClass !== "OvisEncode") return "";
  const linked = encode.inputs?.find((input) => input.name === "prompt")?.link != null;
  if (!linked) return widgetOf(encode, "prompt")?.value ?? "";
  return sourceOf(encode, "prompt")?.ovisPrompt ?? "";
}

/** Whether an encode node is connected to a node that denoises. */
function feedsDenoise(encode) {
  const links = encode.outputs?.[0]?.links ?? [];
  return links.some((id) => {
    const link = encode.graph?.getLink?.(id) ?? encode.graph?.links?.[id];
    return link && DENOISE.has(encode.graph.getNodeById(link.target_id)?.comfyClass);
  });
}

/** The number of steps that will run: the switch `quality` overrides the widget `steps`. */
function stepsOf(node, steps) {
  const [, overriding] = /: (\d+) steps$/.exec(widgetOf(node, "quality")?.value ?? "") ?? [];
  return overriding ? Number(overriding) : steps;
}

/** The settings to request advice for, and which of the advice this node shows. */
function requestOf(node) {
  if (node.comfyClass === "OvisEncode") {
    const shownOnDenoise = feedsDenoise(node);
    return {
      settings: { prompt: promptOf(node) },
      shown: (one) => !(shownOnDenoise && SAMPLING_RULES.has(one.rule)),
    };
  }
  const number = (name) => {
    const value = widgetOf(node, name)?.value;
    return typeof value === "number" ? value : undefined;
  };
  const prompt = promptOf(sourceOf(node, "positive"));
  return {
    settings: { prompt, steps: stepsOf(node, number("steps")), cfg: number("cfg") },
    shown: (one) => SAMPLING_RULES.has(one.rule),
  };
}

class AdvicePanel {
  constructor(node) {
    this.node = node;
    this.panel = new LinesPanel(node, "ovis_advice", "ovis-advice");
    pollWhilePresent(node, POLL_MILLISECONDS, () => this.update());
  }

  async update() {
    const { settings, shown } = requestOf(this.node);
    settings.language = language();
    const key = JSON.stringify(settings) + String(this.node.outputs?.[0]?.links ?? "");
    if (key !== this.key) {
      this.key = key;
      try {
        const { advice } = await post("advice", settings);
        if (key === this.key) this.panel.show(...advice.filter(shown).map((one) => this.line(one)));
      } catch {
        this.key = undefined; // ComfyUI does not answer: try again at the next poll
      }
    }
    this.panel.measure();
  }

  line(one) {
    const line = html("div", { className: "ovis-advice-line" }, one.sentence);
    const prompt = widgetOf(this.node, "prompt");
    if (one.fixed != null && prompt) {
      const button = html("button", { type: "button", textContent: text("advice.apply") });
      button.style.cssText =
        "margin-left:6px;padding:0 6px;border:1px solid #e0a83b;border-radius:3px;" +
        "background:none;color:inherit;cursor:pointer";
      button.addEventListener("click", () => {
        prompt.value = one.fixed;
        prompt.callback?.(one.fixed);
      });
      line.append(" ", button);
    }
    return line;
  }
}

app.registerExtension({
  name: "ovis-worker.advice",
  nodeCreated(node) {
    if (node.comfyClass === "OvisEncode" || DENOISE.has(node.comfyClass)) new AdvicePanel(node);
  },
});
