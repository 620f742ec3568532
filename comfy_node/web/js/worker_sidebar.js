// The sidebar tab: the status of every worker, with buttons to start, stop and restart it.

import { app } from "../../../scripts/app.js";
import { get, post } from "./ask.js";
import { html } from "./panel.js";
import { text } from "./texts.js";
import {
  activityOf, canRestart, colourOf, memoryOf, paceOf, restart, restartOf, routeOf, stateOf,
  statusOf,
} from "./worker_status.js";

const POLL_MILLISECONDS = 2000;
const BUTTON =
  "padding:4px 14px;border:1px solid var(--border-color,#555);border-radius:6px;" +
  "background:var(--comfy-input-bg,#222);color:var(--input-text,#ddd);cursor:pointer;" +
  "font-size:13px";

function button(name, action) {
  const made = html("button", { type: "button", textContent: text(name) });
  made.dataset.action = name;
  made.style.cssText = BUTTON;
  made.addEventListener("click", action);
  return made;
}

function fact(name, value) {
  const key = html("div", { textContent: text(name) });
  key.style.color = "var(--descrip-text,#999)";
  const shown = html("div", { textContent: value });
  shown.style.cssText = "text-align:right;overflow-wrap:anywhere";
  return value ? [key, shown] : [];
}

class Card {
  constructor(label, address) {
    this.label = label;
    this.dot = html("span");
    this.state = html("span");
    this.state.style.cssText = "margin-left:auto;color:var(--descrip-text,#999)";
    this.dot.style.cssText = "flex:none;width:10px;height:10px;border-radius:50%";
    const head = html("div", {}, this.dot, html("strong", { textContent: label }), this.state);
    head.style.cssText = "display:flex;align-items:center;gap:8px;font-size:15px";
    const where = html("div", { textContent: address ?? "" });
    where.style.cssText = "color:var(--descrip-text,#999);overflow-wrap:anywhere";
    this.facts = html("div");
    this.facts.style.cssText = "display:grid;grid-template-columns:auto 1fr;gap:3px 12px";
    this.problem = html("div");
    this.problem.style.cssText =
      "white-space:pre-wrap;overflow-wrap:anywhere;max-height:160px;overflow-y:auto;" +
      "color:#e0a83b;font-size:12px";
    this.buttons = html("div");
    this.buttons.style.cssText = "display:flex;gap:8px";
    this.error = "";
    this.element = html(
      "div", { className: "ovis-worker-card" }, head, where, this.facts, this.problem, this.buttons);
    this.element.style.cssText =
      "display:flex;flex-direction:column;gap:8px;padding:12px;border-radius:8px;" +
      "background:var(--comfy-input-bg,#222);font-size:13px;color:var(--input-text,#ddd)";
  }

  /**
   * Fetches and shows the status. `entry` is the worker in the server's list; `mayAct` says
   * whether this page may start and stop programs.
   */
  async update(entry = this.entry, mayAct = this.mayAct) {
    Object.assign(this, { entry, mayAct });
    const status = await statusOf(this.label, entry);
    this.dot.style.background = colourOf(status);
    this.state.textContent = stateOf(status);
    this.facts.replaceChildren(
      ...fact("worker.model", status.model),
      ...fact("worker.device", status.device),
      ...fact("worker.precision", status.precision),
      ...fact("worker.memory", memoryOf(status)),
      ...fact("worker.queue", activityOf(status)),
      ...fact("worker.pace", paceOf(status)));
    const far = entry.here && !mayAct ? text("worker.far") : "";
    this.problem.textContent =
      [this.error || status.problem, restartOf(status), far].filter(Boolean).join("\n");
    // Buttons are replaced only when the set changes, so that no click is lost in an update.
    const wanted = [
      canRestart(status) ? "worker.restart" : status.can_start && "worker.start",
      status.can_stop && "worker.stop",
    ].filter(Boolean);
    const shown = [...this.buttons.children].map((one) => one.dataset.action);
    if (wanted.join() !== shown.join()) {
      this.buttons.replaceChildren(...wanted.map((name) => button(name, () => this.ask(name))));
    }
  }

  async ask(name) {
    this.error = "";
    try {
      if (name === "worker.restart") await restart(this.label);
      else await post(routeOf(this.label, name.replace("worker.", "")));
    } catch (problem) {
      this.error = problem.message;
    }
    await this.update();
  }
}

class Tab {
  constructor(place) {
    this.cards = html("div");
    this.cards.style.cssText = "display:flex;flex-direction:column;gap:10px";
    const title = html("div", { textContent: text("worker.title") });
    title.style.cssText = "font-size:16px;font-weight:600;color:var(--input-text,#ddd)";
    const open = button("worker.settings", () =>
      app.extensionManager.command.execute("Comfy.ShowSettingsDialog"));
    const frame = html("div", { className: "ovis-workers" }, title, this.cards, open);
    frame.style.cssText =
      "display:flex;flex-direction:column;gap:12px;padding:14px;height:100%;overflow-y:auto;" +
      "box-sizing:border-box";
    place.replaceChildren(frame);
    this.known = "";
    this.list = [];
  }

  async update() {
    const { workers, may_act: mayAct } = await get("workers");
    const now = JSON.stringify(workers.map(({ label, address }) => [label, address]));
    if (now !== this.known) {
      this.known = now;
      this.list = workers.map(({ label, address }) => new Card(label, address));
      this.cards.replaceChildren(...this.list.map((card) => card.element));
    }
    await Promise.all(this.list.map((card, place) => card.update(workers[place], mayAct)));
  }
}

let timer;

function close() {
  clearInterval(timer);
}

function show(place) {
  close();
  const tab = new Tab(place);
  const update = () => {
    if (!place.isConnected) close();
    else if (!document.hidden) tab.update().catch(() => {}); // ComfyUI does not answer: try again
  };
  timer = setInterval(update, POLL_MILLISECONDS);
  tab.update().catch(() => {});
}

app.registerExtension({
  name: "ovis-worker.sidebar",
  setup() {
    app.extensionManager?.registerSidebarTab?.({
      id: "ovis-worker",
      icon: "pi pi-server",
      title: "Ovis",
      tooltip: text("worker.sidebar"),
      type: "custom",
      render: show,
      destroy: close,
    });
  },
});
