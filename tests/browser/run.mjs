// node run.mjs '{"scenario": NAME, "address": URL, ...}' prints what the scenario saw as JSON.

import { ComfyPage } from "./comfy_page.mjs";
import * as designers from "./designers.mjs";
import * as editing from "./editing.mjs";
import * as foreign from "./foreign.mjs";
import * as first from "./newcomer.mjs";
import * as texts from "./node_texts.mjs";
import * as using from "./scenarios.mjs";
import * as vue from "./vue_nodes.mjs";

const scenarios = { ...using, ...designers, ...editing, ...foreign, ...first, ...texts, ...vue };

const asked = JSON.parse(process.argv[2]);
const comfy = await ComfyPage.open(asked);
try {
  const seen = await scenarios[asked.scenario](comfy, asked);
  console.log(JSON.stringify({ seen, problems: comfy.problems }));
} catch (error) {
  await comfy.see(`${asked.scenario}-failed`);
  throw error;
} finally {
  await comfy.close();
}
