// The editor for workers in ComfyUI's settings dialog. The pack's own routes store them in
// ovis_worker.json. ComfyUI's settings contain nothing of them, and the server never sends a
// token back to the browser.

import { app } from "../../../scripts/app.js";
import { get, post } from "./ask.js";
import { html } from "./panel.js";
import { text } from "./texts.js";
import { canRestart, restart, restartOf, routeOf, statusOf } from "./worker_status.js";

/** All settings in the order of the form; the server says which of them this page may change. */
const FIELDS = ["url", "fingerprint", "token", "binary", "model", "vram"];
const INPUT =
  "width:100%;box-sizing:border-box;padding:6px 8px;border-radius:6px;font-size:13px;" +
  "border:1px solid var(--border-color,#555);background:var(--comfy-input-bg,#222);" +
  "color:var(--input-text,#ddd)";
const BUTTON = `${INPUT};width:auto;cursor:pointer;padding:6px 14px`;

function button(name, action) {
  const made = html("button", { type: "button", textContent: text(name) });
  made.style.cssText = BUTTON;
  made.addEventListener("click", action);
  return made;
}

/**
 * The form for one worker. `worker` is the server's description, or null for a new worker;
 * `fields` are the settings that this page may change. Notes
 * appear beside the buttons: a problem with the settings, or that they were `saved`. After a
 * successful change, `changed(label)` is called.
 */
function form(worker, fields, saved, changed) {
  const inputs = {};
  const grid = html("div");
  grid.style.cssText =
    "display:grid;grid-template-columns:max-content 1fr;gap:6px 12px;align-items:center";
  const row = (name, input) => {
    input.style.cssText = INPUT;
    input.setAttribute("aria-label", text(`settings.${name}`));
    inputs[name] = input;
    grid.append(html("label", { textContent: text(`settings.${name}`) }), input);
  };
  if (!worker) row("label", html("input", { type: "text", placeholder: "studio" }));
  for (const field of fields) {
    const secret = field === "token";
    const input = html("input", {
      type: secret ? "password" : "text",
      autocomplete: secret ? "new-password" : "off",
      value: secret ? "" : worker?.settings?.[field] ?? "",
      placeholder: secret
        ? text(worker?.has_token ? "settings.token.set" : "settings.token.none")
        : text(`settings.${field}.example`),
    });
    if (worker?.overridden?.includes(field)) {
      input.disabled = true;
      input.value = "";
      input.placeholder = text("settings.overridden");
    }
    row(field, input);
  }
  const note = saved ? text("settings.saved") : "";
  const message = html("span", { className: "ovis-said", textContent: worker?.problem ?? note });
  message.style.cssText = "white-space:pre-wrap;font-size:12px;color:var(--descrip-text,#999)";
  const ask = async (action, content) => {
    const label = worker?.label ?? inputs.label.value.trim();
    try {
      await post(routeOf(label, action), content);
      await changed(label);
    } catch (problem) {
      message.textContent = problem.message;
    }
  };
  const save = button("settings.save", () => {
    // Only changed fields are sent, so the stored token stays unless a new one is typed.
    const touched = fields.filter((field) =>
      !inputs[field].disabled && inputs[field].value !== inputs[field].defaultValue);
    return ask("save", Object.fromEntries(touched.map((field) => [field, inputs[field].value])));
  });
  for (const input of Object.values(inputs)) input.defaultValue = input.value;
  const buttons = html("div", {}, save, message);
  if (worker?.described) save.after(button("settings.remove", () => ask("remove", {})));
  buttons.style.cssText = "display:flex;align-items:center;gap:8px";
  const title = html("strong", { textContent: worker?.label ?? text("settings.add") });
  const whole = html("div", { className: "ovis-worker-form" }, title, grid, buttons);
  if (worker && !worker.problem) offerRestart(worker.label, message);
  whole.style.cssText =
    "display:flex;flex-direction:column;gap:8px;padding:12px;border-radius:8px;" +
    "border:1px solid var(--border-color,#555)";
  return whole;
}

/** Says that a worker still runs with earlier settings, with a button if it can be restarted. */
async function offerRestart(label, message) {
  const status = await statusOf(label);
  message.textContent = [message.textContent, restartOf(status)].filter(Boolean).join(" ");
  if (!canRestart(status)) return;
  const again = button("worker.restart", async () => {
    again.disabled = true;
    message.textContent = text("worker.restarting");
    try {
      await restart(label);
      message.textContent = text("worker.restarted");
      again.remove();
    } catch (problem) {
      message.textContent = problem.message;
      again.disabled = false;
    }
  });
  message.before(again);
}

/** The element that the settings dialog shows. */
function editor() {
  const about = html("div", { textContent: text("settings.about") });
  about.style.color = "var(--descrip-text,#999)";
  const forms = html("div");
  const whole = html("div", { className: "ovis-worker-settings" }, about, forms);
  for (const element of [whole, forms]) {
    element.style.cssText = "display:flex;flex-direction:column;gap:12px";
  }
  whole.style.width = "min(520px,100%)";
  // Keep ComfyUI's keyboard shortcuts from reacting to what is typed here.
  whole.addEventListener("keydown", (event) => event.stopPropagation());
  const fill = async (saved) => {
    const { workers, may_edit: mayEdit, fields: allowed } = await get("workers");
    const fields = FIELDS.filter((field) => allowed.includes(field));
    const shown = mayEdit ? [...workers, null] : [];
    forms.replaceChildren(...shown.map((worker) => {
      const isSaved = worker !== null && worker.label === saved;
      return form(worker, fields, isSaved, async (label) => {
        await fill(label);
        await app.refreshComboInNodes?.();
      });
    }));
    if (fields.length < FIELDS.length) {
      forms.append(text(mayEdit ? "settings.far" : "settings.elsewhere"));
    }
  };
  fill().catch((problem) => forms.replaceChildren(problem.message));
  return whole;
}

app.registerExtension({
  name: "ovis-worker.settings",
  settings: [
    {
      id: "OvisWorker.Workers",
      category: ["Ovis Worker", "Workers", "Workers"],
      name: "Workers",
      type: editor,
      defaultValue: null,
    },
  ],
});
