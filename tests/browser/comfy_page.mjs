// ComfyUI's page as a person uses it: its templates, sliders, Run, and what comes of it.

import { chromium } from "playwright-core";

const LOAD_MILLISECONDS = 120_000;
const SETTLE_MILLISECONDS = 800;
const RUN_MILLISECONDS = 240_000;

export class ComfyPage {
  /** Opens ComfyUI in a language; `screenshots` is a folder for what was seen. */
  static async open({ address, locale = "en", screenshots, chromium: executablePath }) {
    const args = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];
    if (process.getuid?.() === 0) args.push("--no-sandbox");
    const browser = await chromium.launch({ executablePath, args });
    const context = await browser.newContext({ viewport: { width: 1500, height: 950 } });
    const made = new ComfyPage();
    made.browser = browser;
    made.page = await context.newPage();
    made.screenshots = screenshots;
    made.problems = [];
    made.page.on("pageerror", (error) => {
      if (/\/extensions\/ovis-worker\//.test(error.stack ?? "")) made.problems.push(error.stack);
    });
    await made.page.goto(address);
    await made.ready();
    await made.page.evaluate(async (locale) => {
      const { setting } = window.app.extensionManager;
      await setting.set("Comfy.Locale", locale);
      await setting.set("Comfy.TutorialCompleted", true);
    }, locale);
    await made.page.reload();
    await made.ready();
    return made;
  }

  async ready() {
    await this.page.waitForFunction(
      () => window.app?.extensionManager && window.app?.graph?._nodes, null,
      { timeout: LOAD_MILLISECONDS });
    await this.settle(2500);
    await this.page.evaluate(() => {
      // The first node of a kind by its number: a node that is clicked comes last in the list.
      window.ovisNode = (kind) => window.app.graph._nodes
        .filter((node) => node.type === kind)
        .sort((one, other) => one.id - other.id)[0];
    });
    // A first visit may be greeted with a dialog.
    for (let again = 0; again < 3; again++) await this.page.keyboard.press("Escape");
    await this.settle();
  }

  settle(milliseconds = SETTLE_MILLISECONDS) {
    return this.page.waitForTimeout(milliseconds);
  }

  close() {
    return this.browser.close();
  }

  async see(name) {
    await this.page.screenshot({ path: `${this.screenshots}/${name}.png` });
  }

  /** Runs one of ComfyUI's commands, as its menu does. */
  command(id) {
    return this.page.evaluate((id) => window.app.extensionManager.command.execute(id), id);
  }

  /** Opens a workflow from the template browser; one that opens as an app is left unless `stay`. */
  async openTemplate(pack, name, { stay = false } = {}) {
    await this.command("Comfy.BrowseTemplates");
    await this.page.getByText(pack, { exact: true }).first().click();
    await this.page.getByTestId(`template-workflow-${name}`).click();
    await this.page.waitForFunction(
      () => !document.querySelector('[data-testid="template-workflows-content"]'));
    await this.settle(1500);
    if (!stay && await this.page.getByTestId("linear-widgets").count()) {
      await this.page.keyboard.press("Escape"); // a first visit is greeted with a tour
      await this.command("Comfy.ToggleLinear");
      await this.settle(1500);
    }
  }

  /** Kinds of nodes that ComfyUI does not know, and nodes with a red outline. */
  troubles() {
    return this.page.evaluate(() => ({
      missing: window.app.graph._nodes
        .filter((node) => !window.LiteGraph.registered_node_types[node.type])
        .map((node) => node.type),
      red: window.app.graph._nodes.filter((node) => node.has_errors).map((node) => node.type),
      dialogs: [...document.querySelectorAll(".p-dialog, .comfy-modal")]
        .filter((dialog) => dialog.offsetParent !== null)
        .map((dialog) => dialog.textContent.slice(0, 200)),
    }));
  }

  /** What nodes of ours say: the lines that can be read on them. */
  said() {
    return this.page.locator(".ovis-text-line:visible").allInnerTexts();
  }

  /** Sets widgets without the mouse: `{KIND: {WIDGET: VALUE}}`. */
  set(values) {
    return this.page.evaluate((values) => {
      for (const node of window.app.graph._nodes) {
        for (const [name, value] of Object.entries(values[node.type] ?? {})) {
          const widget = node.widgets.find((widget) => widget.name === name);
          widget.value = value;
          widget.callback?.(value);
        }
      }
      window.app.canvas.setDirty(true, true);
    }, values);
  }

  /** A widget's value on the first node of a kind. */
  valueOf(kind, name) {
    return this.page.evaluate(([kind, name]) => window.ovisNode(kind).widgets
      .find((widget) => widget.name === name).value, [kind, name]);
  }

  /** Shows the graph from its upper left corner, large enough for words to be drawn. */
  async fromTheCorner(scale = 0.75) {
    await this.page.evaluate((scale) => {
      const { ds, graph } = window.app.canvas;
      const least = (axis) => Math.min(...graph._nodes.map((node) => node.pos[axis]));
      ds.scale = scale;
      ds.offset[0] = 90 / scale - least(0);
      ds.offset[1] = 130 / scale - least(1);
      window.app.canvas.setDirty(true, true);
    }, scale);
    await this.settle();
  }

  /** Brings a node to the middle of the window at full size. */
  async centre(kind) {
    await this.page.evaluate((kind) => {
      const node = window.ovisNode(kind);
      const { ds } = window.app.canvas;
      ds.scale = 1;
      ds.offset[0] = 750 - node.pos[0] - node.size[0] / 2;
      ds.offset[1] = 450 - node.pos[1] - node.size[1] / 2;
      window.app.canvas.setDirty(true, true);
    }, kind);
    await this.settle();
  }

  /** Drags a slider with the mouse to a share of its width. */
  async dragSlider(kind, name, share) {
    await this.centre(kind);
    const [left, right, y] = await this.page.evaluate(([kind, name]) => {
      const { canvas } = window.app;
      const node = window.ovisNode(kind);
      const widget = node.widgets.find((widget) => widget.name === name);
      const box = canvas.canvas.getBoundingClientRect();
      const x = (inside) => box.left + node.pos[0] + inside + canvas.ds.offset[0];
      return [x(15), x(node.size[0] - 15),
        box.top + node.pos[1] + widget.last_y + 10 + canvas.ds.offset[1]];
    }, [kind, name]);
    await this.page.mouse.move((left + right) / 2, y);
    await this.page.mouse.down();
    await this.page.mouse.move(left + (right - left) * share, y, { steps: 8 });
    await this.page.mouse.up();
    await this.settle(300);
  }

  /** Presses Run and watches; `while_` is called at the first progress. */
  async run(during = async () => {}) {
    await this.page.evaluate(() => {
      const seen = { previews: 0, progress: [], drawn: 0, images: [], end: null, at: {} };
      window.ovisSeen = seen;
      const { api, graph } = window.app;
      const listen = (kind, hear) => api.addEventListener(kind, (event) => hear(event.detail));
      if (!window.ovisListens) {
        window.ovisListens = true;
        const now = () => window.ovisSeen;
        listen("progress", (told) => now().progress.push([told.value, told.max]));
        listen("b_preview", () => now().previews++);
        listen("executed", (told) => now().images.push(...(told.output?.images ?? [])));
        for (const kind of ["execution_success", "execution_error", "execution_interrupted"]) {
          listen(kind, (told) => {
            now().end = kind;
            now().at[kind] = performance.now();
            now().error = told.exception_message;
          });
        }
        // The bar that the frontend draws on a node.
        setInterval(() => {
          const drawn = window.app.graph._nodes.map((node) => node.progress ?? 0);
          now().drawn = Math.max(now().drawn, ...drawn);
        }, 20);
      }
    });
    // The button itself, or, in older frontends, what holds it and its menu's.
    const run = '[data-testid="queue-button"]';
    const icon = '[data-testid="linear-run-button-icon"]'; // the button of app mode
    const inApp = `button[data-testid="linear-run-button"], button:has(${icon})`;
    await this.page.locator(`button${run}, ${run} button, ${inApp}`).locator("visible=true")
      .first().click();
    await this.page.waitForFunction(
      () => window.ovisSeen.progress.length > 0 || window.ovisSeen.end, null,
      { timeout: RUN_MILLISECONDS });
    await during();
    await this.page.waitForFunction(
      () => window.ovisSeen.end, null, { timeout: RUN_MILLISECONDS });
    await this.settle();
    return this.page.evaluate(() => window.ovisSeen);
  }

  /** Drops a file on the page. */
  async drop(bytes, name, type) {
    await this.page.evaluate(async ([base64, name, type]) => {
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], name, { type }));
      const place = document.querySelector("#graph-canvas");
      for (const kind of ["dragover", "drop"]) {
        place.dispatchEvent(new DragEvent(kind, {
          dataTransfer: transfer, bubbles: true, cancelable: true, clientX: 900, clientY: 700,
        }));
      }
    }, [bytes.toString("base64"), name, type]);
    await this.settle(2000);
  }

  /** The bytes of an image that a run has saved. */
  async bytesOf(saved) {
    const where = new URLSearchParams(saved).toString();
    const address = new URL(`/view?${where}`, this.page.url()).href;
    return (await this.page.request.get(address)).body();
  }

  /** Makes ComfyUI forget what it kept of earlier runs, so that the next makes all anew. */
  async forget() {
    const free = new URL("/free", this.page.url()).href;
    await this.page.request.post(free, { data: { free_memory: true, unload_models: true } });
    await this.settle(1500);
  }

  /** Opens a workflow that is given as JSON. */
  async load(workflow) {
    await this.page.evaluate((workflow) => window.app.loadGraphData(workflow), workflow);
    await this.settle(1500);
  }

  /** The graph as it would be queued. */
  prompt() {
    return this.page.evaluate(async () => (await window.app.graphToPrompt()).output);
  }
}
