// Requests to the pack's own routes on ComfyUI's server, and polling while a node exists.

import { api } from "../../../scripts/api.js";
import { language, text } from "./texts.js";

/** Replaces the user name and password in every address of a text by `***`. */
export function hidingPasswords(text) {
  const BEFORE_AT = "[^\\s/?#\"'`“]*@(?=[\\w[])"; // everything up to the last @ before a host
  return text
    .replace(new RegExp(`([a-z][a-z+.-]*://)${BEFORE_AT}`, "gi"), "$1***@")
    .replace(new RegExp(`[^\\s/?#"'\`“:]*:${BEFORE_AT}`, "g"), "***@");
}

/** Parses an answer. In answers about workers, passwords in addresses are hidden. */
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

/** Sends a GET request. An error carries the message from the server. */
export function get(path) {
  return answerOf(path);
}

/** Sends a POST request with a JSON body. An error carries the message from the server. */
export function post(path, content = {}) {
  const headers = { "Content-Type": "application/json" };
  return answerOf(path, { method: "POST", headers, body: JSON.stringify(content) });
}

/**
 * Whether a node belongs to no graph, or to a subgraph of a workflow that was closed. The
 * frontend creates temporary nodes to copy others, and drops these and the nodes of closed
 * subgraphs without calling `onRemoved`.
 */
function isOrphaned({ graph }) {
  if (!graph) return true;
  const root = graph.rootGraph ?? graph;
  return graph !== root && root.subgraphs.get(graph.id) !== graph;
}

/**
 * Calls `update` about every `milliseconds` while the page is visible, until the node is
 * removed. Polling is needed because the frontend reports no change of upstream nodes' values.
 */
export function pollWhilePresent(node, milliseconds, update) {
  const timer = setInterval(() => {
    if (isOrphaned(node)) clearInterval(timer);
    else if (!document.hidden) update();
  }, milliseconds);
  const removed = node.onRemoved;
  node.onRemoved = function (...args) {
    clearInterval(timer);
    removed?.apply(this, args);
  };
}
