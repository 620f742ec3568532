// The frontend's newer way to draw nodes, as HTML in place of the canvas: "Nodes 2.0".

const SETTING = "Comfy.VueNodes.Enabled";

/** The element that is a node. */
async function elementOf(comfy, kind) {
  const id = await comfy.page.evaluate((kind) => window.ovisNode(kind).id, kind);
  return comfy.page.locator(`[data-node-id="${id}"]`);
}

/** Drags a slider's thumb to a share of its track. */
async function dragThumb(comfy, node, name, share) {
  const { mouse } = comfy.page;
  const slider = node.locator(`[data-slot="slider"][aria-label="${name}"]`);
  const thumb = await slider.getByRole("slider").boundingBox();
  const track = await slider.boundingBox();
  const y = thumb.y + thumb.height / 2;
  await mouse.move(thumb.x + thumb.width / 2, y);
  await mouse.down();
  await mouse.move(track.x + track.width * share, y, { steps: 8 });
  await mouse.up();
  await comfy.settle(300);
}

/** The poster workflow with such nodes: panels, advice, a run and its picture. */
export async function vue(comfy) {
  const { page } = comfy;
  await page.evaluate((name) => window.app.extensionManager.setting.set(name, true), SETTING);
  await comfy.openTemplate("ovis-worker", "ovis_poster");
  await comfy.fromTheCorner();
  await comfy.settle(2500);
  await comfy.see("vue-opened");
  const empty = await elementOf(comfy, "OvisEmptyLatent");
  const line = () => empty.locator(".ovis-size-line").innerText();
  const told = { start: await line() };
  const worker = await elementOf(comfy, "OvisWorker");
  told.status = await worker.locator(".ovis-worker-line").innerText();
  await dragThumb(comfy, empty, "aspect_ratio", 1);
  told.wide = await line();
  told.ratio = await comfy.valueOf("OvisEmptyLatent", "aspect_ratio");
  told.preset = await empty.getByLabel("preset").first().innerText();
  await comfy.set({ OvisEmptyLatent: { preset: "social story 9:16" } });
  await comfy.settle(300);
  told.story = await line();
  told.storyRatio = await empty.getByRole("slider").first().getAttribute("aria-valuenow");
  await comfy.see("vue-dragged");

  const encode = await elementOf(comfy, "OvisEncode");
  const prompt = encode.locator("textarea").first();
  const share = async () => (await prompt.boundingBox()).height
    / (await encode.boundingBox()).height;
  told.promptsShare = [await share()];
  await prompt.fill('A price tag that reads "$5" in vertical text');
  await encode.locator(".ovis-advice-line button").first().waitFor();
  await comfy.settle(1500);
  await comfy.see("vue-advice");
  told.advice = await page.locator(".ovis-advice-line:visible").allInnerTexts();
  await encode.locator(".ovis-advice-line button").first().click();
  await comfy.settle(1500);
  told.fixed = await prompt.inputValue();
  told.promptsShare.push(await share());

  await comfy.set({ OvisEmptyLatent: { megapixels: 0.25 }, OvisKSampler: { steps: 6 } });
  told.run = await comfy.run();
  await comfy.settle(1500);
  await comfy.see("vue-done");
  const shown = (await elementOf(comfy, "SaveImage")).locator("img");
  told.shown = await shown.evaluateAll((all) => all.map((one) => one.naturalWidth));

  // What the worker has cut is said on the node, until nothing is.
  told.said = [];
  for (const typed of ["many words ".repeat(200), "few words"]) {
    await prompt.fill(typed);
    await comfy.run();
    await comfy.settle(1500);
    told.said.push(await encode.locator(".ovis-text-line:visible").allInnerTexts());
    await comfy.see(`vue-said-${told.said.length}`);
  }
  return told;
}
