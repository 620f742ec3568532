// Workflows of somebody else, opened beside the pack's scripts and without them.

const SCRIPTS = "**/extensions/ovis-worker/js/*.js";

/** Opens each workflow, and gives back how each would be saved again. */
async function opened(comfy, workflows) {
  const saved = [];
  for (const workflow of workflows) {
    await comfy.load(workflow);
    await comfy.settle(2500);
    saved.push(await comfy.page.evaluate(() => JSON.stringify(window.app.graph.serialize())));
  }
  return saved;
}

/** What is saved of workflows with the pack's scripts, and where there are none. */
export async function foreign(comfy, { workflows }) {
  const beside = await opened(comfy, workflows);
  await comfy.see("foreign");
  await comfy.page.route(SCRIPTS, (route) =>
    route.fulfill({ contentType: "text/javascript", body: "" }));
  await comfy.page.reload();
  await comfy.ready();
  const hooks = await comfy.page.evaluate(() => window.app.extensions
    .map((one) => one.name).filter((name) => name.startsWith("ovis-worker")));
  const without = await opened(comfy, workflows);
  return { beside, without, hooks };
}

/** Titles and colours of our own nodes in workflows that somebody saved. */
export async function kept(comfy, { workflow }) {
  await comfy.load(workflow);
  await comfy.settle(1500);
  return comfy.page.evaluate(() => window.app.graph.serialize().nodes
    .map(({ id, title, color, bgcolor }) => ({ id, title, color, bgcolor })));
}
