// Reports this page's language to the pack, so that progress messages, errors and advice of a
// running node are in it.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { post } from "./ask.js";
import { language } from "./texts.js";

let reported = "";

/** Reports the language if it has changed or the server may have forgotten it. */
async function report() {
  const page = { client: api.clientId, language: language() };
  const now = JSON.stringify(page);
  if (!page.client || now === reported) return;
  reported = now;
  try {
    await post("language", page);
  } catch {
    reported = ""; // ComfyUI does not answer: report again after the reconnection
  }
}

app.registerExtension({
  name: "ovis-worker.reader",
  setup() {
    // The first status event assigns the client id; later ones follow every queued prompt.
    api.addEventListener("status", report);
    api.addEventListener("reconnected", () => {
      reported = "";
      report();
    });
    report();
  },
});
