//! What an operator sees of the jobs, and does to them, over HTTP.

use uuid::Uuid;

use crate::jobs::{Jobs, Listed, Model, Stage};

/// `GET /jobs`: every job that is uploaded, waits or runs, as a JSON list.
pub fn jobs(jobs: &Jobs) -> String {
    let all: Vec<_> = jobs.list().iter().map(listed).collect();
    line(&serde_json::Value::Array(all))
}

fn listed(job: &Listed) -> serde_json::Value {
    let (state, position) = match job.stage {
        Stage::Uploading => ("uploading", None),
        Stage::Queued(position) => ("queued", Some(position)),
        Stage::Running => ("running", None),
    };
    let owner = job.owner.map(|owner| owner.to_string());
    let (step, steps) = job.step.unzip();
    serde_json::json!({
        "job": job.id.to_string(),
        "operation": job.operation,
        "model": job.model.as_deref(),
        "owner": owner,
        "state": state,
        "position": position,
        "step": step,
        "steps": steps,
    })
}

/// `POST /drain`: accepts no new jobs from now on. Returns a JSON object.
pub fn drain(jobs: &Jobs, by: &str) -> String {
    jobs.drain();
    let status = jobs.status();
    let (queued, running) = (status.queued, status.running);
    tracing::info!(by, queued, running, "draining: no new jobs are accepted");
    line(&serde_json::json!({
        "status": "draining",
        "queued": queued,
        "running": running,
    }))
}

/// `DELETE /jobs/UUID`: cancels the job, whoever has it. Returns a JSON object, or `None` if no
/// job with this UUID waits or runs.
pub fn cancel(jobs: &Jobs, id: Uuid, by: &str) -> Option<String> {
    let cancelled = jobs.cancel_any(id);
    tracing::info!(by, job = %id, cancelled, "an operator cancels a job");
    (cancelled > 0).then(|| line(&serde_json::json!({ "cancelled": cancelled })))
}

/// `POST /models/NAME/unload`: unloads the model before the device's next operation; the next job
/// for it loads it again. Returns a JSON object, or `None` if the model runs a job.
pub fn unload(jobs: &Jobs, model: &Model, by: &str) -> Option<String> {
    let was_loaded = model.is_loaded();
    let is_idle = jobs.unload(model);
    tracing::info!(by, model = &*model.name, is_idle, "asked to unload a model");
    let state = if was_loaded { "unloading" } else { "unloaded" };
    is_idle.then(|| line(&serde_json::json!({ "model": &*model.name, "state": state })))
}

/// `POST /free`: unloads every model that runs no job. Returns a JSON object.
pub fn free(jobs: &Jobs, by: &str) -> String {
    let loaded = jobs.models().iter().filter(|model| model.is_loaded());
    let (idle, busy): (Vec<_>, Vec<_>) = loaded.partition(|model| jobs.unload(model));
    let names = |models: Vec<&std::sync::Arc<Model>>| -> Vec<String> {
        models.iter().map(|model| model.name.to_string()).collect()
    };
    let (unloading, busy) = (names(idle), names(busy));
    tracing::info!(by, ?unloading, ?busy, "asked to free memory");
    line(&serde_json::json!({ "unloading": unloading, "busy": busy }))
}

fn line(body: &serde_json::Value) -> String {
    format!("{body}\n")
}
