//! The bodies of `/health` and `/metrics`.

use ovis_protocol::limits::PROTOCOL_VERSION;

use super::context::Context;
use super::options::WORKER;
use crate::jobs::{Health, Jobs};

/// `/health`: whether jobs are accepted, and a JSON object that says so.
pub fn health(jobs: &Jobs) -> (bool, String) {
    let can = jobs.capabilities();
    let status = jobs.status();
    let health = jobs.health();
    let name = match health {
        Health::Ok => "ok",
        Health::Stopping => "stopping",
        Health::Ended => "failed",
    };
    let body = serde_json::json!({
        "status": name,
        "worker": WORKER,
        "protocol": PROTOCOL_VERSION,
        "model": can.model,
        "device": can.device,
        "precision": can.precision,
        "queued": status.queued,
        "running": status.running,
    });
    (health == Health::Ok, format!("{body}\n"))
}

/// `/metrics`, in Prometheus's text format.
pub fn metrics(context: &Context) -> String {
    context.gauges.update(&context.jobs, &context.connections);
    context.jobs.metrics().render()
}
