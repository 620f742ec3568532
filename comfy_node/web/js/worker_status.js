// How a worker is, in words, and how it is started anew.

import { get, post } from "./ask.js";
import { text } from "./texts.js";

const GIGABYTE = 1e9;
const LOOK_MILLISECONDS = 500;
const STOP_MILLISECONDS = 60_000; // it finishes its running step first
const COLOURS = {
  connected: "#4caf50",
  ready: "#4caf50",
  starting: "#e0a83b",
  away: "#8a8a8a",
  other: "#e05252",
  unknown: "#e05252",
  bad: "#e05252",
};

/**
 * A worker's status; one that means nothing here has the state `unknown`. `entry` is the
 * worker in the server's list: one whose settings are wrong is `bad`, and is not asked.
 */
export async function statusOf(label, entry = {}) {
  if (entry.problem) return { label, state: "bad", problem: entry.problem };
  try {
    return await get(routeOf(label, "status"));
  } catch (problem) {
    return { label, state: "unknown", problem: problem.message };
  }
}

/** Starts, stops, saves or removes a worker, or tells its status: the route for it. */
export function routeOf(label, action) {
  return `workers/${encodeURIComponent(label)}/${action}`;
}

/** Whether its process still has earlier settings, and can be ended from this page. */
export function canRestart(status) {
  return Boolean(status.restart_needed && status.can_stop);
}

/** What to know of its settings while its process has earlier ones; else empty. */
export function restartOf(status) {
  if (!status.restart_needed) return "";
  return text(canRestart(status) ? "worker.outdated" : "worker.outdated.elsewhere");
}

/** Ends a worker, and starts it with its settings of now; an error is a sentence. */
export async function restart(label) {
  await post(routeOf(label, "stop"));
  const deadline = Date.now() + STOP_MILLISECONDS;
  while ((await get(routeOf(label, "status"))).can_stop) {
    if (Date.now() > deadline) throw new Error(text("worker.busy", STOP_MILLISECONDS / 1000));
    await new Promise((resolve) => setTimeout(resolve, LOOK_MILLISECONDS));
  }
  await post(routeOf(label, "start"));
}

/** The colour of a state's dot. */
export function colourOf(status) {
  return COLOURS[status.state] ?? COLOURS.away;
}

/** The state's name. */
export function stateOf(status) {
  return text(`worker.${status.state}`);
}

/** What the worker is doing; empty when it does not answer. */
export function activityOf(status) {
  if (status.step != null) return text("worker.step", status.step, status.steps);
  if (status.position) return text("worker.before", status.position);
  if (status.queued == null) return "";
  if (status.queued + status.running === 0) return text("worker.idle");
  return text("worker.jobs", status.running, status.queued);
}

/** Seconds per step, with as many digits as matter. */
export function paceOf(status) {
  const seconds = status.seconds_per_step;
  return seconds == null ? "" : text("worker.seconds", seconds.toPrecision(2));
}

/** Memory in use of the whole; empty for a device that does not say. */
export function memoryOf(status) {
  if (!status.memory_total) return "";
  const gigabytes = (bytes) => ((bytes ?? 0) / GIGABYTE).toFixed(1);
  return text("worker.gigabytes", gigabytes(status.memory_used), gigabytes(status.memory_total));
}
