// The browser side's own sentences in the languages of the node pack. What belongs to
// nodes, widgets and settings is translated by ComfyUI from locales/ instead.

import { app } from "../../../scripts/app.js";

const TEXTS = {
  en: {
    "size.line": (width, height, megapixels) => `${width} × ${height} px · ${megapixels} MP`,
  },
  zh: {
    "size.line": (width, height, megapixels) => `${width} × ${height} 像素 · ${megapixels} MP`,
  },
};

/** The language of ComfyUI's own texts, of those there are here. */
export function language() {
  const chosen = app.ui?.settings?.getSettingValue?.("Comfy.Locale") ?? navigator.language;
  return String(chosen).startsWith("zh") ? "zh" : "en";
}

/** A sentence; what it is about follows its name. */
export function text(name, ...about) {
  const found = TEXTS[language()][name] ?? TEXTS.en[name];
  return typeof found === "function" ? found(...about) : found;
}
