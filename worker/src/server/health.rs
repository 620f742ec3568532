//! The bodies of `/health`, `/healthz`, `/readyz` and `/metrics`.

use ovis_protocol::limits::PROTOCOL_VERSION;

use super::context::Context;
use super::options::WORKER;
use crate::jobs::{Health, Jobs};

/// `/health`: whether jobs are accepted, and a JSON object that says so.
pub fn health(jobs: &Jobs) -> (bool, String) {
    let can = jobs.capabilities();
    let status = jobs.status();
    let (health, kept) = (jobs.health(), jobs.kept());
    let is_ok = health == Health::Ok && !jobs.is_draining();
    let name = match health {
        Health::Ok if jobs.is_draining() => "draining",
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
        "memory": jobs.models().default_model().memory(),
        "models": models(jobs),
        "queued": status.queued,
        "running": status.running,
        "kept_bytes": kept.bytes,
        "kept_bytes_limit": kept.limit,
        "kept_seconds": jobs.keeping().seconds,
        "kept_jobs": kept.ended,
        "is_durable": jobs.keeping().is_durable,
    });
    (is_ok, format!("{body}\n"))
}

/// The models, and where their weights are.
fn models(jobs: &Jobs) -> Vec<serde_json::Value> {
    let models = jobs.models().iter().map(|model| {
        let (state, bytes) = model.weights();
        serde_json::json!({
            "name": &*model.name,
            "model": model.capabilities.model,
            "precision": model.capabilities.precision,
            "state": state.name(),
            "bytes": bytes,
        })
    });
    models.collect()
}

/// `/healthz`: whether the worker is alive, and a JSON object that says so.
pub fn healthz(context: &Context) -> (bool, String) {
    let is_alive = context.jobs.health() != Health::Ended;
    (is_alive, format!("{{\"alive\":{is_alive}}}\n"))
}

/// `/readyz`: whether a job would be accepted now, and a JSON object that says so, or why not.
pub fn readyz(context: &Context) -> (bool, String) {
    let obstacle = context.jobs.obstacle();
    let is_ready = obstacle.is_none();
    let body = serde_json::json!({"ready": is_ready, "reason": obstacle});
    (is_ready, format!("{body}\n"))
}

/// `/metrics`, in Prometheus's text format.
pub fn metrics(context: &Context) -> String {
    context.gauges.update(&context.jobs, &context.connections);
    context.jobs.metrics().render()
}
