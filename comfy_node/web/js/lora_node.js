// Ovis LoRA: fills the chooser with the worker's adapters, keeps the hash of the chosen one, and
// shows its picture and trigger words.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { get, pollWhilePresent } from "./ask.js";
import { addPanel, fit, html, onChange, widgetOf } from "./panel.js";
import { text } from "./texts.js";

const NODE = "OvisLora";
const POLL_MILLISECONDS = 10000;
const PICTURE = 128; // pixels
const LINE = 18; // pixels

/** Lists by worker's label: a promise, and when it was asked for. */
const lists = new Map();

/** The adapters of a worker; one request serves all nodes for a while. */
function adaptersOf(label) {
  const known = lists.get(label);
  if (known && Date.now() - known.at < POLL_MILLISECONDS) return known.list;
  const list = get(`workers/${encodeURIComponent(label)}/adapters`).then((body) => body.adapters);
  lists.set(label, { at: Date.now(), list });
  return list;
}

/** The label of the graph's first Ovis Worker. */
function labelOf(node) {
  const graph = node.graph?.rootGraph ?? node.graph;
  const workers = (graph?._nodes ?? []).filter((other) => other.comfyClass === "OvisWorker");
  return widgetOf(workers[0] ?? {}, "worker")?.value ?? "local";
}

/** Hides a widget whose value is still saved. */
function hide(widget) {
  if (!widget) return;
  widget.hidden = true;
  widget.computeSize = () => [0, -4];
  (widget.options ??= {}).hidden = true;
}

/** What is wrong with the chosen adapter, or an empty text. */
function problemOf(name, hash, found) {
  if (!name) return "";
  if (!found) return text("lora.missing", name);
  return hash && hash !== found.hash ? text("lora.other", name) : "";
}

function setUp(node) {
  const adapter = widgetOf(node, "adapter");
  const hash = widgetOf(node, "hash");
  if (!adapter) return;
  hide(hash);
  const picture = html("img", { alt: "", hidden: true });
  picture.style.cssText = `max-height:${PICTURE}px;max-width:100%;border-radius:4px`;
  const words = html("div");
  words.style.cssText = "overflow-wrap:anywhere;white-space:pre-wrap;user-select:text";
  const element = html("div", { className: "ovis-lora" }, picture, words);
  element.style.cssText =
    "display:flex;flex-direction:column;gap:4px;overflow:hidden;font:12px/1.4 sans-serif;" +
    "color:var(--descrip-text,#999)";
  let height = 0;
  addPanel(node, "ovis_lora_panel", element, () => height);

  const show = (found, problem, label) => {
    picture.hidden = !found?.has_picture;
    if (found?.has_picture) {
      const query = new URLSearchParams({ name: found.name, hash: found.hash });
      picture.src = api.apiURL(
        `/ovis-worker/workers/${encodeURIComponent(label)}/adapters/picture?${query}`);
    }
    const lines = [
      problem,
      found?.title,
      found?.triggers.length ? text("lora.triggers", found.triggers.join(", ")) : "",
    ].filter(Boolean);
    words.textContent = lines.join("\n");
    words.style.color = problem ? "#e0a83b" : "";
    element.title = words.textContent;
    const needed = (found?.has_picture ? PICTURE + 8 : 0) + lines.length * LINE;
    if (needed !== height) {
      height = needed;
      fit(node);
    }
  };

  // The saved name stays in the list, so that it is seen where it is missing, and so that ComfyUI
  // does not take it for a missing file while the worker is not there to be asked.
  const listNames = (names) => {
    if (adapter.options) {
      adapter.options.values = [...new Set(["", ...names, adapter.value ?? ""])];
    }
  };
  const configured = node.onConfigure;
  node.onConfigure = function (...told) {
    const result = configured?.apply(this, told);
    const { values } = adapter.options ?? {};
    listNames(Array.isArray(values) ? values : []);
    return result;
  };

  const update = async (isChosen = false) => {
    const label = labelOf(node);
    let list;
    try {
      list = await adaptersOf(label);
    } catch (problem) {
      return show(null, adapter.value ? problem.message.split("\n")[0] : "", label);
    }
    listNames(list.map((one) => one.name));
    const found = list.find((one) => one.name === adapter.value);
    if (hash && isChosen) hash.value = found?.hash ?? "";
    if (hash && found && !hash.value) hash.value = found.hash;
    show(found, problemOf(adapter.value, hash?.value, found), label);
  };
  onChange(adapter, () => update(true));
  pollWhilePresent(node, POLL_MILLISECONDS, update);
  update();
}

app.registerExtension({
  name: "ovis-worker.lora",
  nodeCreated(node) {
    if (node.comfyClass === NODE) setUp(node);
  },
});
