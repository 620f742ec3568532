// What is done in the browser, one function a story. Each gives back what was seen.

const SMALL = {
  OvisEmptyLatent: { megapixels: 0.25 },
  EmptySD3LatentImage: { width: 256, height: 256 },
  ImageScaleToTotalPixels: { megapixels: 0.05 },
  OvisContactSheet: { seeds: "1-2", steps: "4", cfg: "1, 5" },
  OvisLora: { hash: "" }, // the adapter of that name fits the tiny model, and so is another file
};
const SLIDERS = { OvisKSampler: "steps", OvisKSamplerAdvanced: "steps", OvisContactSheet: "shift" };

/** A shipped workflow, from the template browser to the PNG and back. */
export async function workflow(comfy, { name }) {
  await comfy.openTemplate("ovis-worker", name);
  const opened = await comfy.troubles();
  await comfy.fromTheCorner();
  await comfy.see(`${name}-opened`);
  await comfy.set(SMALL);
  const kinds = await comfy.page.evaluate(() => window.app.graph._nodes.map((node) => node.type));
  const kind = Object.keys(SLIDERS).find((kind) => kinds.includes(kind));
  const slider = SLIDERS[kind];
  const before = await comfy.valueOf(kind, slider);
  await comfy.dragSlider(kind, slider, slider === "steps" ? 0.07 : 0.3);
  const after = await comfy.valueOf(kind, slider);
  await comfy.set({ OvisKSampler: { steps: 6 }, OvisKSamplerAdvanced: { steps: 6 } });
  const queued = await comfy.prompt();
  const first = await comfy.run(() => comfy.see(`${name}-running`));
  await comfy.fromTheCorner();
  await comfy.see(`${name}-done`);
  const shown = await comfy.page.evaluate(() =>
    window.app.graph._nodes.filter((node) => node.type === "SaveImage" && node.imgs?.length).length);
  const done = await comfy.troubles();
  // What a node said while it waited is gone when it is done.
  const said = await comfy.said();

  const [saved] = first.images.filter((image) => image.type === "output");
  const png = await comfy.bytesOf(saved);
  await comfy.command("Comfy.NewBlankWorkflow");
  await comfy.settle();
  await comfy.drop(png, saved.filename, "image/png");
  const reloaded = await comfy.prompt();
  await comfy.forget();
  const second = await comfy.run();
  const [again] = second.images.filter((image) => image.type === "output");
  return {
    opened, done, said, before, after, shown, queued, reloaded,
    first: { ...first, saved }, second: { ...second, saved: again },
  };
}

/** Cancel, pressed while the worker is at work; `worker` is its address. */
export async function interrupt(comfy, { worker }) {
  await comfy.openTemplate("ovis-worker", "ovis_text_to_image");
  await comfy.set({ OvisEmptyLatent: { megapixels: 1 }, OvisKSampler: { steps: 100 } });
  const ask = async (name) => {
    const metrics = await (await fetch(`${worker}/metrics`)).text();
    return Number(metrics.match(new RegExp(`^ovis_${name} (.*)$`, "m"))[1]);
  };
  const told = {};
  told.seen = await comfy.run(async () => {
    await comfy.page.waitForFunction(() => window.ovisSeen.progress.length >= 3);
    told.running = await ask("jobs_running");
    await comfy.page.getByLabel("Cancel current run").first().click();
    told.stepsAtClick = await ask("steps_total");
    while ((await ask("jobs_running")) > 0) await comfy.page.waitForTimeout(20);
    told.stepsAtEnd = await ask("steps_total");
  });
  return told;
}

/** Panels, advice, sidebar and settings. */
export async function designer(comfy) {
  const { page } = comfy;
  await comfy.openTemplate("ovis-worker", "ovis_text_to_image");
  const line = () => page.locator(".ovis-size-line").first().textContent();
  const told = { start: await line() };
  await comfy.dragSlider("OvisEmptyLatent", "aspect_ratio", 1);
  told.wide = await line();
  told.ratio = await comfy.valueOf("OvisEmptyLatent", "aspect_ratio");
  await comfy.set({ OvisEmptyLatent: { preset: "social story 9:16" } });
  told.story = await line();
  told.storyRatio = await comfy.valueOf("OvisEmptyLatent", "aspect_ratio");
  await comfy.dragSlider("OvisEmptyLatent", "aspect_ratio", 0.5);
  told.presetAfterDrag = await comfy.valueOf("OvisEmptyLatent", "preset");

  await comfy.centre("OvisEncode");
  const prompt = await comfy.valueOf("OvisEncode", "prompt");
  const boxes = await page.locator("textarea").evaluateAll((all) => all.map((one) => one.value));
  const text = page.locator("textarea").nth(boxes.indexOf(prompt));
  await text.fill('A price tag that reads "$5" in vertical text');
  await comfy.set({ OvisKSampler: { cfg: 9 } });
  await page.locator(".ovis-advice-line button").first().waitFor();
  await comfy.settle(1500);
  await comfy.see("advice");
  told.advice = await page.locator(".ovis-advice-line").allTextContents();
  await page.locator(".ovis-advice-line button").first().click();
  told.fixed = await comfy.valueOf("OvisEncode", "prompt");
  await comfy.settle(1500);
  told.adviceAfter = await page.locator(".ovis-advice-line").allTextContents();

  await page.evaluate(() => {
    window.app.extensionManager.sidebarTab.activeSidebarTabId = "ovis-worker";
  });
  await page.locator(".ovis-worker-card").first().waitFor();
  await comfy.settle(2500);
  await comfy.see("sidebar");
  told.cards = await page.locator(".ovis-worker-card").allInnerTexts();
  return told;
}

async function openSettings(comfy) {
  await comfy.command("Comfy.ShowSettingsDialog");
  await comfy.page.getByText("Ovis Worker", { exact: true }).last().click();
}

function formOf(comfy, label) {
  const title = comfy.page.getByText(label, { exact: true });
  return comfy.page.locator(".ovis-worker-form", { has: title });
}

/** A worker is taken out of the settings dialog. */
export async function forget(comfy, { label }) {
  await openSettings(comfy);
  const form = formOf(comfy, label);
  await form.getByText("Remove", { exact: true }).click();
  await form.waitFor({ state: "detached" });
  return comfy.page.locator(".ovis-worker-form strong").allTextContents();
}

/** A worker is described in the settings dialog, and then offered on the node. */
export async function settings(comfy, { url, token }) {
  const { page } = comfy;
  await comfy.openTemplate("ovis-worker", "ovis_text_to_image");
  await openSettings(comfy);
  const form = page.locator(".ovis-worker-form").last();
  await form.getByLabel("Label").fill("studio");
  await form.getByLabel("Address").fill(url);
  await form.getByLabel("Token").fill(token);
  await comfy.see("settings");
  await form.getByText("Save", { exact: true }).click();
  await formOf(comfy, "studio").getByText("Saved.", { exact: true }).waitFor();
  await comfy.see("settings-saved");
  const html = await page.content();
  await page.keyboard.press("Escape");
  await comfy.settle();
  const offered = await page.evaluate(() => {
    const node = window.app.graph._nodes.find((node) => node.type === "OvisWorker");
    const { values } = node.widgets.find((widget) => widget.name === "worker").options;
    return typeof values === "function" ? values() : values;
  });
  await comfy.set({ OvisWorker: { worker: "studio" } });
  await comfy.settle(2500);
  const line = await page.locator(".ovis-worker-line").first().innerText();
  const graph = await page.evaluate(() => JSON.stringify(window.app.graph.serialize()));
  return { offered, line, shown: html.includes(token), saved: graph.includes(token) };
}

/** Settings of a worker that runs are changed, and it is restarted from the settings dialog. */
export async function outdated(comfy, { label, token }) {
  await openSettings(comfy);
  const form = formOf(comfy, label);
  await form.getByLabel("Token").fill(token);
  await form.getByText("Save", { exact: true }).click();
  const again = form.getByText("Restart", { exact: true });
  await again.waitFor();
  const said = await form.locator(".ovis-said").innerText();
  await comfy.see("settings-outdated");
  await again.click();
  await form.getByText("Restarted with the new settings.").waitFor({ timeout: 60_000 });
  return { said, offered: await again.count() };
}

/** Every node in another language. */
export async function titles(comfy, { names }) {
  await comfy.openTemplate("ovis-worker", "ovis_inpaint_headline");
  await comfy.fromTheCorner();
  await comfy.see("inpaint");
  const loaded = await comfy.page.evaluate(() =>
    [...window.app.graph._nodes, ...window.app.graph._groups].map((one) => one.title));
  const nodes = await comfy.page.evaluate((names) => names.map((name) => {
    const node = window.LiteGraph.createNode(name);
    return [node.title, ...(node.widgets ?? []).map((widget) => widget.label ?? widget.name)];
  }), names);
  await comfy.openTemplate("ovis-worker", "ovis_poster_template");
  await comfy.fromTheCorner();
  await comfy.settle(1500);
  await comfy.see("poster-template");
  // What is drawn, and what is kept.
  const template = await comfy.page.evaluate(() => {
    const { widgets } = window.ovisNode("OvisPromptTemplate");
    const widget = widgets.find((widget) => widget.name === "template");
    return [widget._displayValue, widget.value];
  });
  await comfy.page.evaluate(() => {
    window.app.extensionManager.sidebarTab.activeSidebarTabId = "ovis-worker";
  });
  await comfy.page.locator(".ovis-worker-card").first().waitFor();
  await comfy.settle(2500);
  await comfy.see("sidebar");
  return { nodes, loaded, template };
}

/** A workflow's graph with its picture, for the README. `prompts` are by their nodes' numbers. */
export async function portrait(comfy, { name, values, prompts }) {
  const { page } = comfy;
  await page.setViewportSize({ width: 1700, height: 900 });
  await page.evaluate(async () => {
    const { setting } = window.app.extensionManager;
    await setting.set("Comfy.Minimap.Visible", false);
    await setting.set("Comfy.Graph.CanvasInfo", false);
  });
  await comfy.openTemplate("ovis-worker", name);
  await page.evaluate(() => {
    // The note about weights says nothing that a picture of the graph should show.
    const { graph } = window.app;
    for (const note of graph.nodes.filter(({ type }) => type === "MarkdownNote")) graph.remove(note);
  });
  await comfy.set(values);
  await page.evaluate((prompts) => {
    for (const [id, prompt] of Object.entries(prompts)) {
      window.app.graph.getNodeById(Number(id)).widgets.find((widget) => widget.name === "prompt").value = prompt;
    }
  }, prompts);
  const { end, error } = await comfy.run();
  if (end !== "execution_success") throw new Error(error);
  await comfy.fromTheCorner(0.72);
  await comfy.settle(6000); // until what is said of the finished job is gone
  const clip = await page.evaluate(() => {
    const { graph, canvas } = window.app;
    const { scale, offset } = canvas.ds;
    const page = canvas.canvas.getBoundingClientRect();
    const boxes = graph.nodes.map((node) => node.getBounding());
    const [left, top] = [0, 1].map((side) => Math.min(...boxes.map((box) => box[side])));
    const [right, bottom] = [0, 1].map((side) => Math.max(...boxes.map((box) => box[side] + box[side + 2])));
    const margin = 12;
    return {
      x: page.left + (left + offset[0]) * scale - margin,
      y: page.top + (top + offset[1]) * scale - margin,
      width: (right - left) * scale + 2 * margin,
      height: (bottom - top) * scale + 2 * margin,
    };
  });
  await page.screenshot({ path: `${comfy.screenshots}/portrait.png`, clip });
}

/** What is said to a reader of another language when a workflow cannot run. */
export async function refused(comfy) {
  await comfy.openTemplate("ovis-worker", "ovis_text_to_image");
  await comfy.set({ OvisWorker: { worker: "nobody's" } });
  const seen = await comfy.run();
  await comfy.see("refused");
  const line = await comfy.page.locator(".ovis-worker-line").first().innerText();
  return { end: seen.end, error: seen.error, line };
}
