// Prompt advice on the nodes that it is about, while the prompt is typed.

import { app } from "../../../scripts/app.js";
import { post, whileThere } from "./ask.js";
import { html, LinesPanel, widgetOf } from "./panel.js";
import { language, text } from "./texts.js";

const LOOK_MILLISECONDS = 700;
const DENOISE = new Set(["OvisDenoise", "OvisDenoiseAdvanced", "OvisContactSheet"]);
/** What belongs to the sampling, and is said there. */
const OF_SAMPLING = new Set(["vertical", "guidance"]);

/** The node that feeds the input called `name`. */
function before(node, name) {
  const slot = node.inputs?.findIndex((input) => input.name === name) ?? -1;
  return slot >= 0 && node.inputs[slot].link != null ? node.getInputNode(slot) : null;
}

/** An encode node's prompt: its own, or its template's; empty where it is not known. */
function promptOf(encode) {
  if (encode?.comfyClass !== "OvisEncode") return "";
  const linked = encode.inputs?.find((input) => input.name === "prompt")?.link != null;
  if (!linked) return widgetOf(encode, "prompt")?.value ?? "";
  return before(encode, "prompt")?.ovisPrompt ?? "";
}

function feedsDenoise(encode) {
  const links = encode.outputs?.[0]?.links ?? [];
  return links.some((id) => {
    const link = encode.graph?.getLink?.(id) ?? encode.graph?.links?.[id];
    return link && DENOISE.has(encode.graph.getNodeById(link.target_id)?.comfyClass);
  });
}

/** What to ask advice about, and which of it to show. */
function question(node) {
  if (node.comfyClass === "OvisEncode") {
    const elsewhere = feedsDenoise(node);
    return {
      asked: { prompt: promptOf(node) },
      shown: (one) => !(elsewhere && OF_SAMPLING.has(one.rule)),
    };
  }
  const number = (name) => {
    const value = widgetOf(node, name)?.value;
    return typeof value === "number" ? value : undefined;
  };
  return {
    asked: { prompt: promptOf(before(node, "positive")), steps: number("steps"), cfg: number("cfg") },
    shown: (one) => OF_SAMPLING.has(one.rule),
  };
}

class AdvicePanel {
  constructor(node) {
    this.node = node;
    this.panel = new LinesPanel(node, "ovis_advice", "ovis-advice");
    whileThere(node, LOOK_MILLISECONDS, () => this.look());
  }

  async look() {
    const { asked, shown } = question(this.node);
    asked.language = language();
    const key = JSON.stringify(asked) + String(this.node.outputs?.[0]?.links ?? "");
    if (key !== this.key) {
      this.key = key;
      try {
        const { advice } = await post("advice", asked);
        if (key === this.key) this.panel.show(...advice.filter(shown).map((one) => this.line(one)));
      } catch {
        this.key = undefined; // ComfyUI is away; asked again when it is back
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
