// Texts of the browser scripts in the node pack's languages. ComfyUI translates the names and
// tooltips of nodes, widgets and settings from locales/ instead.

import { app } from "../../../scripts/app.js";

const TEXTS = {
  en: {
    "size.line": (width, height, megapixels) => `${width} × ${height} px · ${megapixels} MP`,
    "advice.apply": "Use it",
    "ask.away": (why) => `ComfyUI does not answer: ${why}`,
    "lora.missing": (name) => `Missing: ${name}. The worker has no adapter of this name.`,
    "lora.other": (name) =>
      `The worker's ${name} is another file than the workflow's. Choose it again to use it.`,
    "lora.triggers": (words) => `Trigger words: ${words}`,
    "compare.hint": "Run the workflow, then move the pointer over the image.",
    "worker.title": "Ovis workers",
    "worker.sidebar": "Ovis workers: status, start and stop",
    "worker.connected": "connected",
    "worker.ready": "ready",
    "worker.starting": "starting …",
    "worker.away": "not running",
    "worker.other": "not an ovis-worker",
    "worker.unknown": "not set up here",
    "worker.bad": "wrong settings",
    "worker.model": "Model",
    "worker.device": "Device",
    "worker.precision": "Precision",
    "worker.memory": "Memory",
    "worker.queue": "Queue",
    "worker.pace": "Speed",
    "worker.start": "Start",
    "worker.stop": "Stop",
    "worker.restart": "Restart",
    "worker.restarting": "Restarting …",
    "worker.restarted": "Restarted with the new settings.",
    "worker.outdated": "It still runs with its previous settings. Restart it to apply the new ones.",
    "worker.outdated.elsewhere":
      "It still runs with its previous settings. Restart it on the machine that ComfyUI runs on, " +
      "or where it was started, to apply the new ones.",
    "worker.busy": (seconds) =>
      `It is still running ${seconds} seconds after it was asked to stop. Its log says what it ` +
      "is doing; start it after it has exited.",
    "worker.far":
      "For safety, a worker can be started and stopped only in a browser on the machine that " +
      "ComfyUI runs on.",
    "worker.settings": "Worker settings …",
    "worker.idle": "idle",
    "worker.jobs": (running, queued) => `${running} running, ${queued} waiting`,
    "worker.step": (step, steps) => `step ${step} of ${steps}`,
    "worker.before": (jobs) => `${jobs} ahead`,
    "worker.seconds": (seconds) => `${seconds} s per step`,
    "worker.gigabytes": (used, total) => `${used} of ${total} GB`,
    "settings.label": "Label",
    "settings.url": "Address",
    "settings.fingerprint": "Certificate's fingerprint",
    "settings.token": "Token",
    "settings.binary": "Worker binary",
    "settings.model": "Weights",
    "settings.vram": "GPU memory",
    "settings.url.example": "ws://127.0.0.1:7867",
    "settings.fingerprint.example": "SHA-256 from the worker's log, if it made its certificate",
    "settings.token.set": "set; type to replace it",
    "settings.token.none": "none",
    "settings.binary.example": "found automatically, or an absolute path",
    "settings.model.example": "ComfyUI's models folder, or a path",
    "settings.vram.example": "all that is free, or at most, such as 12GiB",
    "settings.overridden": "set by an environment variable",
    "settings.save": "Save",
    "settings.saved": "Saved.",
    "settings.remove": "Remove",
    "settings.add": "Add a worker",
    "settings.elsewhere":
      "For safety, worker settings can be changed only in a browser on the machine that ComfyUI " +
      "runs on, or in ovis_worker.json there.",
    "settings.far":
      "This page can name workers on other machines. Programs and paths are set in a browser on " +
      "the machine that ComfyUI runs on, or in ovis_worker.json there.",
    "settings.about":
      "A workflow names a worker only by its label. The settings behind a label are stored on this " +
      "machine, in ovis_worker.json, and never in a workflow.",
  },
  zh: {
    "size.line": (width, height, megapixels) => `${width} × ${height} 像素 · ${megapixels} MP`,
    "advice.apply": "采用",
    "ask.away": (why) => `ComfyUI 没有应答：${why}`,
    "lora.missing": (name) => `缺少：${name}。Ovis 服务没有这个名称的适配器。`,
    "lora.other": (name) => `Ovis 服务上的 ${name} 与工作流所用的不是同一个文件。重新选择即可使用它。`,
    "lora.triggers": (words) => `触发词：${words}`,
    "compare.hint": "运行后，在图像上移动鼠标即可对比。",
    "worker.title": "Ovis 服务",
    "worker.sidebar": "Ovis 服务：状态、启动与停止",
    "worker.connected": "已连接",
    "worker.ready": "就绪",
    "worker.starting": "正在启动…",
    "worker.away": "未运行",
    "worker.other": "不是 Ovis 服务",
    "worker.unknown": "此处未设置",
    "worker.bad": "设置有误",
    "worker.model": "模型",
    "worker.device": "设备",
    "worker.precision": "精度",
    "worker.memory": "显存",
    "worker.queue": "队列",
    "worker.pace": "速度",
    "worker.start": "启动",
    "worker.stop": "停止",
    "worker.restart": "重启",
    "worker.restarting": "正在重启…",
    "worker.restarted": "已用新设置重启。",
    "worker.outdated": "它仍在使用之前的设置运行。重启后新设置才会生效。",
    "worker.outdated.elsewhere":
      "它仍在使用之前的设置运行。请在运行 ComfyUI 的机器上，或在启动它的地方重启，新设置才会生效。",
    "worker.busy": (seconds) =>
      `收到停止请求 ${seconds} 秒后仍在运行。日志会说明它正在做什么；请等它退出后再启动。`,
    "worker.far":
      "出于安全考虑，只能在运行 ComfyUI 的机器上的浏览器里启动和停止 Ovis 服务。",
    "worker.settings": "Ovis 服务设置…",
    "worker.idle": "空闲",
    "worker.jobs": (running, queued) => `${running} 个运行中，${queued} 个等待`,
    "worker.step": (step, steps) => `第 ${step} 步，共 ${steps} 步`,
    "worker.before": (jobs) => `前面还有 ${jobs} 个任务`,
    "worker.seconds": (seconds) => `每步 ${seconds} 秒`,
    "worker.gigabytes": (used, total) => `${used} / ${total} GB`,
    "settings.label": "标签",
    "settings.url": "地址",
    "settings.fingerprint": "证书指纹",
    "settings.token": "令牌",
    "settings.binary": "程序文件",
    "settings.model": "权重",
    "settings.vram": "显存",
    "settings.url.example": "ws://127.0.0.1:7867",
    "settings.fingerprint.example": "Ovis 服务日志中的 SHA-256，仅用于它自己生成的证书",
    "settings.token.set": "已设置；输入可替换",
    "settings.token.none": "无",
    "settings.binary.example": "自动查找，或填写完整路径",
    "settings.model.example": "ComfyUI 的 models 文件夹，或一个路径",
    "settings.vram.example": "全部空闲显存，或填写上限，如 12GiB",
    "settings.overridden": "由环境变量设定",
    "settings.save": "保存",
    "settings.saved": "已保存。",
    "settings.remove": "删除",
    "settings.add": "添加 Ovis 服务",
    "settings.elsewhere":
      "出于安全考虑，只能在运行 ComfyUI 的机器上的浏览器里修改这些设置，或修改那里的 ovis_worker.json。",
    "settings.far":
      "此页面可以设置其他机器上的 Ovis 服务。程序和路径只能在运行 ComfyUI 的机器上的浏览器里设置，或在那里的 " +
      "ovis_worker.json 中设置。",
    "settings.about":
      "工作流只通过标签指定 Ovis 服务。标签对应的设置保存在本机的 ovis_worker.json 中，从不写入工作流。",
  },
};

/** Language tags of Traditional Chinese, which the pack's Chinese texts are not written in. */
const TRADITIONAL = /^zh-(hant|tw|hk|mo)\b/i;

/**
 * The language of this page's texts: ComfyUI's, if the pack has it, and otherwise English.
 * The Chinese texts are Simplified Chinese, so Traditional Chinese falls back to English.
 */
export function language() {
  const chosen = String(app.ui?.settings?.getSettingValue?.("Comfy.Locale") ?? navigator.language);
  return /^zh\b/i.test(chosen) && !TRADITIONAL.test(chosen) ? "zh" : "en";
}

/** The text called `name` in the user's language; `values` fill its placeholders. */
export function text(name, ...values) {
  const found = TEXTS[language()][name] ?? TEXTS.en[name];
  return typeof found === "function" ? found(...values) : found;
}
