// A first visit: the pack from ComfyUI's manager, and the first workflow.

const PACK = /^Ovis Worker/;
const INSTALL_MILLISECONDS = 120_000;

/** Installs the pack in the manager's dialog, restarts ComfyUI there, and runs the first workflow as
 * it is. `registry` says whose requests of the page go where. */
export async function newcomer(comfy, { address, registry }) {
  const { page } = comfy;
  const told = { at: {} };
  const reached = (step) => { told.at[step] = Date.now(); };
  // The dialog searches in the registry itself. Nothing else leaves this machine.
  await page.route((url) => url.hostname !== "127.0.0.1", async (route) => {
    const url = route.request().url();
    if (!url.startsWith(registry.real)) return route.abort();
    const answer = await fetch(url.replace(registry.real, registry.ours));
    const { status } = answer;
    const headers = { "access-control-allow-origin": "*" };
    return answer.ok
      ? route.fulfill({ status, headers, json: await answer.json() })
      : route.fulfill({ status, headers });
  });
  reached("the page opens");
  await comfy.command("Comfy.NewBlankWorkflow");
  await comfy.settle(1500);
  await comfy.command("Comfy.OpenManagerDialog");
  const found = page.getByText(PACK).first();
  await found.waitFor(); // a search before the first list has come ends in an error
  await page.getByPlaceholder(/search/i).first().fill("Ovis");
  const install = page.getByRole("button", { name: "Install", exact: true });
  await comfy.settle(1500);
  await found.waitFor();
  await install.first().waitFor();
  await comfy.see("found");
  await install.first().click();
  // A button outside the dialog, which hides all else from assistive tools while it is open.
  const apply = page.locator("button", { hasText: "Apply Changes" }).first();
  await apply.waitFor({ timeout: INSTALL_MILLISECONDS });
  reached("the manager finds and installs pack and worker");
  await apply.click();
  await answered(`${address}/object_info/OvisWorker`);
  await page.goto(address);
  await comfy.ready();
  reached("ComfyUI restarts");
  await comfy.openTemplate("ovis-worker", "ovis_first_poster");
  told.run = await comfy.run();
  reached("the first workflow runs");
  await comfy.fromTheCorner(0.7);
  await comfy.see("first-poster");
  told.troubles = await comfy.troubles();
  return told;
}

/** Waits until an address answers. */
async function answered(address) {
  const until = Date.now() + INSTALL_MILLISECONDS;
  for (;;) {
    const answer = await fetch(address).catch(() => null);
    if (answer?.ok && Object.keys(await answer.json()).length) return;
    if (Date.now() > until) throw new Error(`${address} does not answer`);
    await new Promise((go) => { setTimeout(go, 500); });
  }
}
