//! What `/health` and `/metrics` say.

use std::fmt::Write as _;

use ovis_protocol::limits::PROTOCOL_VERSION;

use super::gate::Gate;
use crate::engine::{EngineHandle, Health};

/// `/health`: whether jobs are taken, and a JSON object that says so.
pub fn health(engine: &EngineHandle) -> (bool, String) {
    let can = engine.capabilities();
    let status = engine.status();
    let health = engine.health();
    let name = match health {
        Health::Ok => "ok",
        Health::Stopping => "stopping",
        Health::Ended => "failed",
    };
    let body = serde_json::json!({
        "status": name,
        "worker": super::WORKER,
        "protocol": PROTOCOL_VERSION,
        "model": can.model,
        "device": can.device,
        "precision": can.precision,
        "queued": status.queued,
        "running": status.running,
    });
    (health == Health::Ok, format!("{body}\n"))
}

/// `/metrics`: in Prometheus's text form. `unsent` is how many bytes wait to be read.
pub fn metrics(engine: &EngineHandle, gate: &Gate, unsent: u64) -> String {
    let (clients, silent, turned_out) = gate.counts();
    let (status, counts) = (engine.status(), engine.counts());
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: f64| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP ovis_{name} {help}\n# TYPE ovis_{name} {kind}\novis_{name} {value}"
        );
    };
    metric(
        "connections",
        "gauge",
        "Clients that have said hello.",
        clients as f64,
    );
    metric(
        "silent_sockets",
        "gauge",
        "Sockets that have not said hello.",
        silent as f64,
    );
    metric(
        "silent_sockets_dropped_total",
        "counter",
        "Sockets without a hello that had to make way for newer ones.",
        turned_out as f64,
    );
    metric(
        "unsent_bytes",
        "gauge",
        "Bytes of results and previews that clients have not read.",
        unsent as f64,
    );
    metric(
        "jobs_queued",
        "gauge",
        "Jobs waiting.",
        status.queued.into(),
    );
    metric(
        "jobs_running",
        "gauge",
        "Jobs on the device.",
        status.running.into(),
    );
    metric(
        "steps_total",
        "counter",
        "Denoise steps run.",
        counts.steps as f64,
    );
    metric(
        "step_seconds_total",
        "counter",
        "Seconds of these steps.",
        counts.step_seconds,
    );
    metric(
        "forwards_total",
        "counter",
        "Forwards of the transformer in these steps.",
        counts.forwards.asked as f64,
    );
    metric(
        "forwards_answered_total",
        "counter",
        "Forwards of which the step cache answered all but the first block.",
        counts.forwards.answered as f64,
    );
    metric(
        "busy_seconds_total",
        "counter",
        "Seconds the device thread has worked.",
        counts.busy_seconds,
    );
    metric(
        "uptime_seconds",
        "gauge",
        "Seconds since the start.",
        status.uptime_seconds,
    );
    metric(
        "device_bytes_used",
        "gauge",
        "Device memory in use, 0 when unknown.",
        status.device_bytes_used as f64,
    );
    metric(
        "device_bytes_total",
        "gauge",
        "Device memory, 0 when unknown.",
        status.device_bytes_total as f64,
    );
    text.push_str("# HELP ovis_jobs_total Jobs ended.\n# TYPE ovis_jobs_total counter\n");
    for ((operation, outcome), count) in counts.ended {
        let _ = writeln!(
            text,
            "ovis_jobs_total{{operation=\"{operation}\",outcome=\"{outcome}\"}} {count}"
        );
    }
    text
}
