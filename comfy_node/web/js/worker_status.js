// Texts for a worker's status, and how a worker is restarted.

import { get, post } from "./ask.js";
import { text } from "./texts.js";

const GIGABYTE = 1e9;
const POLL_MILLISECONDS = 500;
const STOP_MILLISECONDS = 60_000; // a stopping worker finishes its current step first
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
 * Fetches a worker's status. A label that is not set up here has the state `unknown`. `entry` is
 * the worker in the server's list; if its settings are invalid, the state is `bad` and no request
 * is sent.
 */
export async function statusOf(label, entry = {}) {
  if (entry.problem) return { label, state: "bad", problem: entry.problem };
  try {
    return await get(routeOf(label, "status"));
  } catch (problem) {
    return { label, state: "unknown", problem: problem.message };
  }
}

/** The route for an action on a worker: start, stop, save, remove or status. */
export function routeOf(label, action) {
  return `workers/${encodeURIComponent(label)}/${action}`;
}

/** Whether the worker runs with earlier settings and can be restarted from this page. */
export function canRestart(status) {
  return Boolean(status.restart_needed && status.can_stop);
}

/** A note that the worker runs with earlier settings; otherwise empty. */
export function restartOf(status) {
  if (!status.restart_needed) return "";
  return text(canRestart(status) ? "worker.outdated" : "worker.outdated.elsewhere");
}

/** Stops a worker and starts it with its current settings. Errors carry a message to show. */
export async function restart(label) {
  await post(routeOf(label, "stop"));
  const deadline = Date.now() + STOP_MILLISECONDS;
  while ((await get(routeOf(label, "status"))).can_stop) {
    if (Date.now() > deadline) throw new Error(text("worker.busy", STOP_MILLISECONDS / 1000));
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
  }
  await post(routeOf(label, "start"));
}

/** The colour of the status dot. */
export function colourOf(status) {
  return COLOURS[status.state] ?? COLOURS.away;
}

/** The name of the state. */
export function stateOf(status) {
  return text(`worker.${status.state}`);
}

/** What the worker is doing; empty if it does not answer. */
export function activityOf(status) {
  if (status.step != null) return text("worker.step", status.step, status.steps);
  if (status.position) return text("worker.before", status.position);
  if (status.queued == null) return "";
  if (status.queued + status.running === 0) return text("worker.idle");
  return text("worker.jobs", status.running, status.queued);
}

/** Seconds per step, with two significant digits. */
export function paceOf(status) {
  const seconds = status.seconds_per_step;
  return seconds == null ? "" : text("worker.seconds", seconds.toPrecision(2));
}

/** Used and total device memory; empty if the device does not report it. */
export function memoryOf(status) {
  if (!status.memory_total) return "";
  const gigabytes = (bytes) => ((bytes ?? 0) / GIGABYTE).toFixed(1);
  return text("worker.gigabytes", gigabytes(status.memory_used), gigabytes(status.memory_total));
}
