// What is done to graphs: nodes muted, bypassed and put into a subgraph, old graphs opened.
// One function a story, as in scenarios.mjs; each gives back what was seen.

const SMALL = {
  OvisEmptyLatent: { megapixels: 0.05 },
  OvisKSampler: { seed: 7, control_after_generate: "fixed", steps: 4 },
};

/** The text to image workflow, with little to do. */
async function openSmall(comfy) {
  await comfy.openTemplate("ovis-worker", "ovis_text_to_image");
  await comfy.set(SMALL);
}

function saved(run) {
  return run.images.filter((image) => image.type === "output");
}

/** Adds a node whose inputs come from the first outputs of others; gives back its id. */
function add(comfy, kind, inputs) {
  return comfy.page.evaluate(([kind, inputs]) => {
    const { graph } = window.app;
    const node = window.LiteGraph.createNode(kind);
    graph.add(node);
    for (const [name, from] of Object.entries(inputs)) {
      const socket = node.inputs.findIndex((input) => input.name === name);
      graph.getNodeById(from).connect(0, node, socket);
    }
    return node.id;
  }, [kind, inputs]);
}

function idOf(comfy, kind) {
  return comfy.page.evaluate((kind) => window.ovisNode(kind).id, kind);
}

/** Mutes (2) or bypasses (4) nodes, or takes both back (0). */
function setMode(comfy, ids, mode) {
  return comfy.page.evaluate(([ids, mode]) => {
    for (const id of ids) window.app.graph.getNodeById(id).mode = mode;
  }, [ids, mode]);
}

const MUTED = 2;
const BYPASSED = 4;

/** A graph with two pictures, as a whole and with some of its nodes muted or bypassed. */
export async function modes(comfy) {
  await openSmall(comfy);
  const [denoise, decode] = await Promise.all(
    ["OvisKSampler", "OvisVAEDecode"].map((kind) => idOf(comfy, kind)));
  const compare = await add(comfy, "OvisCompare", { before: decode, after: decode });
  const otherSave = await add(comfy, "SaveImage", { images: compare });
  const told = {};
  const play = async (name, ids, mode) => {
    await setMode(comfy, ids, mode);
    await comfy.forget();
    const { end, error, images } = await comfy.run();
    told[name] = { end, error, saved: saved({ images }), prompt: await comfy.prompt() };
    await comfy.see(`modes-${name}`);
    await setMode(comfy, ids, 0);
  };
  told.ids = { denoise, decode, compare, otherSave };
  await play("whole", [], 0);
  await play("mutedBranch", [compare, otherSave], MUTED);
  await play("bypassedDenoise", [denoise], BYPASSED);
  await play("bypassedCompare", [compare], BYPASSED);
  return told;
}

/** What reaches the node after one of ours and after its twin: as it is, muted, bypassed. */
export async function twins(comfy, { pairs }) {
  await comfy.command("Comfy.NewBlankWorkflow");
  await comfy.settle();
  return comfy.page.evaluate(async ([pairs, modes]) => {
    const { app, LiteGraph } = window;
    const SOURCES = {
      LATENT: "EmptyLatentImage", IMAGE: "LoadImage", STRING: "PrimitiveString",
      INT: "PrimitiveInt",
    };
    const AFTER = {
      LATENT: ["SaveLatent", "samples"], IMAGE: ["SaveImage", "images"],
      CONDITIONING: ["ConditioningZeroOut", "conditioning"], STRING: ["PreviewAny", "source"],
    };
    const make = (kind) => {
      const node = LiteGraph.createNode(kind);
      app.graph.add(node);
      return node;
    };
    const reaches = async (kind, mode) => {
      app.graph.clear();
      const node = make(kind);
      node.mode = mode;
      node.inputs.forEach((input, place) => {
        if (SOURCES[input.type] && !input.widget) make(SOURCES[input.type]).connect(0, node, place);
      });
      const [consumer, name] = AFTER[node.outputs[0].type];
      const after = make(consumer);
      node.connect(0, after, after.inputs.findIndex((input) => input.name === name));
      const { output } = await app.graphToPrompt();
      const link = output[after.id].inputs[name];
      return link ? output[link[0]]?.class_type ?? "nothing" : "nothing";
    };
    const told = {};
    for (const pair of pairs) {
      for (const kind of pair) {
        told[kind] = [];
        for (const mode of modes) told[kind].push(await reaches(kind, mode));
      }
    }
    return told;
  }, [pairs, [0, MUTED, BYPASSED]]);
}

/** Our nodes become a subgraph, which runs, is saved with its picture and opened from it. */
export async function subgraph(comfy) {
  await openSmall(comfy);
  await comfy.forget();
  const flat = await comfy.run();
  await comfy.page.evaluate(() => {
    const { canvas } = window.app;
    canvas.deselectAll();
    canvas.selectItems(window.app.graph._nodes.filter((node) => node.type.startsWith("Ovis")));
  });
  await comfy.command("Comfy.Graph.ConvertToSubgraph");
  await comfy.settle(1500);
  const kinds = () => comfy.page.evaluate(() => window.app.graph._nodes.map(
    (node) => node.subgraph ? node.subgraph._nodes.map((inner) => inner.type).sort() : node.type));
  const converted = await kinds();
  await comfy.see("subgraph-converted");
  await comfy.forget();
  const inside = await comfy.run();
  const panels = await enter(comfy, "subgraph-inside");
  await comfy.command("Comfy.NewBlankWorkflow");
  await comfy.settle();
  const [picture] = saved(inside);
  await comfy.drop(await comfy.bytesOf(picture), picture.filename, "image/png");
  const reloaded = await kinds();
  await comfy.see("subgraph-reloaded");
  await comfy.forget();
  const again = await comfy.run();
  const asked = await askedAfterClosing(comfy);
  const troubles = await comfy.troubles();
  return { flat, inside, again, converted, reloaded, panels, asked, troubles };
}

/** Looks into the graph's subgraph, and leaves it again. */
async function enter(comfy, name) {
  const { page } = comfy;
  await page.evaluate(() => {
    const node = window.app.graph._nodes.find((node) => node.subgraph);
    window.app.canvas.openSubgraph(node.subgraph, node);
  });
  await comfy.settle(2500);
  await comfy.fromTheCorner();
  await comfy.settle(2500);
  await comfy.see(name);
  const shown = {};
  for (const panel of ["ovis-size-line", "ovis-worker-line"]) {
    shown[panel] = await page.locator(`.${panel}:visible`).allInnerTexts();
  }
  await page.evaluate(() => window.app.canvas.setGraph(window.app.canvas.graph.rootGraph));
  await comfy.settle();
  return shown;
}

/** How often nodes ask the server for something when the graph that they were in is closed. */
async function askedAfterClosing(comfy) {
  await comfy.command("Comfy.NewBlankWorkflow");
  await comfy.settle(1500);
  const asked = [];
  const hear = (request) => {
    if (request.url().includes("/ovis-worker/")) asked.push(request.url());
  };
  comfy.page.on("request", hear);
  await comfy.settle(5000);
  comfy.page.off("request", hear);
  return asked;
}

/** A workflow from before some widgets were there is opened and run. */
export async function older(comfy, { workflow }) {
  await comfy.load(workflow);
  const opened = await comfy.troubles();
  const widgets = await comfy.page.evaluate(() => Object.fromEntries(window.app.graph._nodes
    .filter((node) => node.type.startsWith("Ovis"))
    .map((node) => [node.id, Object.fromEntries((node.widgets ?? [])
      .filter((widget) => widget.serialize !== false)
      .map((widget) => [widget.name, widget.value]))])));
  const queued = await comfy.prompt();
  const run = await comfy.run();
  await comfy.see("older");
  return { opened, widgets, queued, run, done: await comfy.troubles() };
}
