// What a node says when it runs: how long it can be read, and where it is not written down.

const VUE = "Comfy.VueNodes.Enabled";
const LONG = "many words ".repeat(200);

/** The element in which a node's prompt is typed. */
async function promptOf(comfy, kind, name) {
  await comfy.centre(kind);
  const typed = await comfy.valueOf(kind, name);
  const boxes = await comfy.page.locator("textarea").evaluateAll((all) =>
    all.map((one) => one.value));
  return comfy.page.locator("textarea").nth(boxes.indexOf(typed));
}

/**
 * A prompt that is cut, with both ways to draw nodes (`vue`): what is said after the job, in
 * the saved workflow, once the prompt is another one, and after that one has run.
 */
export async function cut(comfy, { vue }) {
  const { page } = comfy;
  await page.evaluate(([name, vue]) => window.app.extensionManager.setting.set(name, vue),
    [VUE, vue]);
  await comfy.openTemplate("ovis-worker", "ovis_text_to_image");
  await comfy.set({
    OvisEmptyLatent: { megapixels: 0.05 },
    OvisKSampler: { steps: 2, cfg: 5, control_after_generate: "fixed" },
  });
  const told = {};
  const height = () => page.evaluate(() => window.ovisNode("OvisEncode").size[1]);
  const box = await promptOf(comfy, "OvisEncode", "prompt");
  await box.fill(LONG);
  await comfy.settle(1500);
  told.heightBefore = await height();
  told.end = (await comfy.run()).end;
  await comfy.settle(7000); // long after the frontend has forgotten the job
  await comfy.see(`cut-${vue}`);
  told.after = await comfy.said();
  told.panels = await page.evaluate(() => window.app.graph._nodes
    .flatMap((node) => node.widgets ?? []).map((widget) => widget.name)
    .filter((name) => ["ovis_text", "$$node-text-preview"].includes(name)));
  told.saved = await page.evaluate(() => JSON.stringify(window.app.graph.serialize()));
  told.values = await page.evaluate(() => window.ovisNode("OvisEncode").serialize().widgets_values);
  // The same again: ComfyUI has kept the result, and what was cut is still cut.
  await comfy.run();
  await comfy.settle(2500);
  told.again = await comfy.said();
  await box.fill("few words");
  await comfy.settle(1500);
  told.changed = await comfy.said();
  told.heightAfter = await height();
  await comfy.run();
  await comfy.settle(1500);
  told.short = await comfy.said();
  // And the long one again, which is encoded anew.
  await box.fill(`${LONG} again`);
  await comfy.run();
  await comfy.settle(1500);
  told.anew = await comfy.said();
  await comfy.see(`cut-anew-${vue}`);
  return told;
}

/** A house template beside a file that is none: what the node says of it, after the job. */
export async function badTemplate(comfy) {
  await comfy.openTemplate("ovis-worker", "ovis_poster_template");
  await comfy.set({ OvisEmptyLatent: { megapixels: 0.05 }, OvisKSampler: { steps: 2 } });
  const { end } = await comfy.run();
  await comfy.settle(7000);
  await comfy.fromTheCorner(0.6);
  await comfy.see("bad-template");
  const after = await comfy.said();
  await comfy.set({ OvisPromptTemplate: { headline: "ANOTHER" } });
  await comfy.settle(1500);
  return { end, after, changed: await comfy.said() };
}
