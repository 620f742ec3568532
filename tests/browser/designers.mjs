// What a designer sees who never opens a graph: app mode, and a whole poster as one node.

/** The poster template as an app: which widgets it shows, and a run with its picture. */
export async function app(comfy) {
  const { page } = comfy;
  await comfy.openTemplate("ovis-worker", "ovis_poster_template", { stay: true });
  await comfy.settle(2500);
  await page.keyboard.press("Escape"); // a first visit is greeted with a tour
  await comfy.settle();
  await comfy.see("app-opened");
  const shown = page.getByTestId("linear-widgets");
  const told = { labels: (await shown.innerText()).split("\n").filter(Boolean) };
  await shown.locator("textarea").first().fill("OPEN DAY");
  await page.evaluate(() => { // a small picture in a few steps, which the app does not offer
    const set = { OvisEmptyLatent: { megapixels: 0.05 }, OvisKSampler: { steps: 2 } };
    for (const node of window.app.graph._nodes) {
      for (const [name, value] of Object.entries(set[node.type] ?? {})) {
        node.widgets.find((widget) => widget.name === name).value = value;
      }
    }
  });
  told.prompt = await comfy.prompt();
  told.run = await comfy.run();
  await comfy.settle(1500);
  await comfy.see("app-done");
  told.pictures = await page.locator("img[src*='ovis_poster_template']:visible").count();
  await comfy.command("Comfy.ToggleLinear");
  await comfy.settle();
  told.troubles = await comfy.troubles();
  return told;
}

/** The blueprint: found in the node search, one node with four widgets, and a run. */
export async function blueprint(comfy) {
  const { page } = comfy;
  await comfy.command("Comfy.NewBlankWorkflow");
  await comfy.settle(1500);
  await page.mouse.dblclick(750, 500);
  await comfy.settle();
  await page.keyboard.type("Ovis Poster", { delay: 20 });
  await comfy.settle(1500);
  await comfy.see("blueprint-search");
  await page.keyboard.press("Enter");
  await comfy.settle(1000);
  await page.mouse.click(750, 500); // newer frontends attach a new node to the pointer
  await comfy.settle(1500);
  const told = await page.evaluate(() => {
    const [node] = window.app.graph._nodes;
    return {
      titles: window.app.graph._nodes.map((one) => one.title),
      widgets: node?.widgets?.map((widget) => [widget.name, widget.value]),
      outputs: node?.outputs?.map((output) => output.type),
    };
  });
  await page.evaluate(() => {
    const { app, LiteGraph } = window;
    const [poster] = app.graph._nodes;
    const save = LiteGraph.createNode("SaveImage");
    app.graph.add(save);
    save.pos = [poster.pos[0] + poster.size[0] + 60, poster.pos[1]];
    poster.connect(0, save, 0);
    poster.widgets.find((widget) => widget.name === "headline").value = "OPEN DAY";
    for (const node of poster.subgraph._nodes) {
      const set = { OvisEmptyLatent: { megapixels: 0.05 }, OvisKSampler: { steps: 2 } };
      for (const [name, value] of Object.entries(set[node.type] ?? {})) {
        node.widgets.find((widget) => widget.name === name).value = value;
      }
    }
  });
  told.prompt = await comfy.prompt();
  told.run = await comfy.run();
  await comfy.see("blueprint-done");
  told.troubles = await comfy.troubles();
  return told;
}
