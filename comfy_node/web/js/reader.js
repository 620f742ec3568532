// Tells the pack in which language this page reads, so that what a node says when it runs
// is in it: progress, errors, advice.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { post } from "./ask.js";
import { language } from "./texts.js";

let told = "";

/** Tells it where it is another than before, or the server does not know it any more. */
async function tell() {
  const reads = { client: api.clientId, language: language() };
  const now = JSON.stringify(reads);
  if (!reads.client || now === told) return;
  told = now;
  try {
    await post("language", reads);
  } catch {
    told = ""; // ComfyUI is away; told when it is back
  }
}

app.registerExtension({
  name: "ovis-worker.reader",
  setup() {
    // The first of them names the page; they also come whenever a prompt is queued.
    api.addEventListener("status", tell);
    api.addEventListener("reconnected", () => {
      told = "";
      tell();
    });
    tell();
  },
});
