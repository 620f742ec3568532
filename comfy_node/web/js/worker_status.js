// How a worker is, in words.

import { get } from "./ask.js";
import { text } from "./texts.js";

const GIGABYTE = 1e9;
const COLOURS = {
  connected: "#4caf50",
  ready: "#4caf50",
  starting: "#e0a83b",
  away: "#8a8a8a",
  other: "#e05252",
  unknown: "#e05252",
};

/** A worker's status; one that means nothing here has the state `unknown`. */
export async function statusOf(label) {
  try {
    return await get(`workers/${encodeURIComponent(label)}/status`);
  } catch (problem) {
    return { label, state: "unknown", problem: problem.message };
  }
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
