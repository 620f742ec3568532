// Questions to the pack's own routes on ComfyUI's server.

import { api } from "../../../scripts/api.js";
import { language, text } from "./texts.js";

/** A text in which user and password of every address are hidden. */
export function hidingPasswords(text) {
  const BEFORE_AT = "[^\\s/?#\"'`“]*@(?=[\\w[])"; // up to the last @ before a host
  return text
    .replace(new RegExp(`([a-z][a-z+.-]*://)${BEFORE_AT}`, "gi"), "$1***@")
    .replace(new RegExp(`[^\\s/?#"'\`“:]*:${BEFORE_AT}`, "g"), "***@");
}

/** An answer's values; where it is about workers, no address in it shows a password. */
function parsed(path, json) {
  const clean = path.startsWith("workers");
  return JSON.parse(json, (_, value) =>
    clean && typeof value === "string" ? hidingPasswords(value) : value);
}

async function answerOf(path, options = {}) {
  let answer, body;
  const headers = { ...options.headers, "Accept-Language": language() };
  try {
    answer = await api.fetchApi(`/ovis-worker/${path}`, { ...options, headers });
    body = parsed(path, await answer.text());
  } catch (problem) {
    throw new Error(text("ask.away", problem.message));
  }
  if (!answer.ok) throw new Error([body.error, body.hint].filter(Boolean).join("\n"));
  return body;
}

/** The answer to a GET; an error's message is the server's sentence. */
export function get(path) {
  return answerOf(path);
}

/** The answer to a POST of JSON; an error's message is the server's sentence. */
export function post(path, content = {}) {
  const headers = { "Content-Type": "application/json" };
  return answerOf(path, { method: "POST", headers, body: JSON.stringify(content) });
}

/**
 * Whether a node is in no graph, or in a subgraph of a workflow that was closed. The frontend
 * makes nodes to copy others, and forgets them and those in subgraphs without a word.
 */
function isLeftOver({ graph }) {
  if (!graph) return true;
  const root = graph.rootGraph ?? graph;
  return graph !== root && root.subgraphs.get(graph.id) !== graph;
}

/**
 * Calls `look` about every `milliseconds` while the page is seen, until the node is gone.
 * What nodes before this one hold can change without a word, so it is looked at.
 */
export function whileThere(node, milliseconds, look) {
  const timer = setInterval(() => {
    if (isLeftOver(node)) clearInterval(timer);
    else if (!document.hidden) look();
  }, milliseconds);
  const removed = node.onRemoved;
  node.onRemoved = function (...given) {
    clearInterval(timer);
    removed?.apply(this, given);
  };
}
