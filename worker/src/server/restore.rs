//! Jobs that an earlier process left in the state folder go on.

use std::time::SystemTime;

use ovis_protocol::{ErrorCode, TensorHeader, WireError};

use super::{tensors, values};
use crate::jobs::journal::{JobRecord, RecordedEnd, Recovered};
use crate::jobs::{Event, Jobs, Resume, Work};

/// How often a worker may end while it runs the same job, without progress in between, before
/// the job is taken for the cause.
const MOST_BEGINNINGS: u32 = 3;

/// Queues the jobs that have not ended again, and keeps the ends of the others. Their owners
/// claim them when they return.
pub fn restore(jobs: &Jobs, recovered: impl Iterator<Item = Recovered>) {
    let (mut queued, mut ended) = (0, 0);
    for Recovered {
        record,
        tensors,
        state,
        begun,
        end,
    } in recovered
    {
        let is_over = end.is_some();
        let kept = match end {
            Some((at, end)) => jobs.restore_end(&record, event(end), at),
            None if begun >= MOST_BEGINNINGS => fail(jobs, &record, &suspected()),
            None => match queue(jobs, &record, tensors, state.map(|(_, state)| state)) {
                Err(error) => fail(jobs, &record, &error),
                queued => queued,
            },
        };
        match kept {
            Ok(()) if is_over => ended += 1,
            Ok(()) => queued += 1,
            Err(error) => {
                tracing::warn!(job = %record.key.id, %error, "a job of the state folder is dropped");
            }
        }
    }
    if queued + ended > 0 {
        tracing::info!(queued, ended, "jobs of an earlier process are there again");
    }
}

fn event(end: RecordedEnd) -> Event {
    match end {
        RecordedEnd::Done(outcome, output) => Event::Done(outcome, output),
        RecordedEnd::Failed(error) => Event::Failed(error),
    }
}

fn queue(
    jobs: &Jobs,
    record: &JobRecord,
    parts: Vec<(TensorHeader, Vec<u8>)>,
    state: Option<Vec<u8>>,
) -> Result<(), WireError> {
    let model = jobs.models().find(record.options.model.as_deref())?;
    if record.model != model.identity() {
        return Err(other_model(record, &model.identity()));
    }
    let headers: Vec<_> = parts.iter().map(|(header, _)| header.clone()).collect();
    tensors::check(&record.request, &headers, &model.capabilities)?;
    let bytes = headers.iter().filter_map(|h| h.byte_len().ok()).sum();
    let work = match (values::work(record.request.clone(), parts)?, state) {
        // A state that this worker wrote is newer than one that the client sent.
        (Work::Denoise(request, inputs, _), Some(state)) => {
            let resume = Resume {
                state,
                is_optional: true,
            };
            Work::Denoise(request, inputs, Some(resume))
        }
        (work, _) => work,
    };
    let ask = tensors::ask(&record.request, &headers);
    jobs.restore(record, model, bytes, ask, work)
}

/// Ends a job with an error instead of queueing it.
fn fail(jobs: &Jobs, record: &JobRecord, error: &WireError) -> Result<(), WireError> {
    tracing::warn!(job = %record.key.id, code = error.code.name(), %error, "not queued again");
    jobs.recorder().end_unqueued(record, error);
    jobs.restore_end(record, Event::Failed(error.clone()), SystemTime::now())
}

fn other_model(record: &JobRecord, present: &str) -> WireError {
    WireError::new(
        ErrorCode::MissingModel,
        format!(
            "The job was submitted to {}, and the worker was started again with {present}.",
            record.model
        ),
        "Run the workflow again to use the present model.",
    )
}

fn suspected() -> WireError {
    WireError::new(
        ErrorCode::Internal,
        format!(
            "The worker's process has ended {MOST_BEGINNINGS} times while it ran this job, which \
             may be the cause."
        ),
        "The worker's log says more. Try a smaller size or batch.",
    )
}
