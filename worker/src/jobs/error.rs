//! Failures as clients see them.

use ovis_protocol::{ErrorCode, WireError};

use crate::pipeline::Error;

/// A pipeline error as the client sees it. A failure of the device is also logged, because
/// its cause says more than the client needs.
pub fn wire_error(error: &Error) -> WireError {
    let (code, hint) = match error {
        Error::Invalid { hint, .. } => (ErrorCode::InvalidRequest, hint.as_str()),
        Error::TooLarge { hint, .. } => (ErrorCode::OutOfMemory, hint.as_str()),
        Error::MissingAdapter { hint, .. } => (ErrorCode::MissingModel, hint.as_str()),
        Error::MissingPart { .. } => (
            ErrorCode::MissingModel,
            "Start the worker with a checkpoint that has it.",
        ),
        Error::NotFinite { .. } => (
            ErrorCode::Internal,
            "The arithmetic overflowed: check that the weights belong together, and try bf16 or f32, or less guidance.",
        ),
        _ if error.is_bad_snapshot() => (
            ErrorCode::InvalidRequest,
            "Submit the job without its state; it then begins anew.",
        ),
        _ if error.is_out_of_memory() => (
            ErrorCode::OutOfMemory,
            "Use a smaller size or batch, or free memory on the device.",
        ),
        _ => {
            if let Error::Device(cause) = error {
                tracing::error!(%cause, "the device failed");
            }
            (ErrorCode::Internal, "The worker's log says more.")
        }
    };
    WireError::new(code, error.to_string(), hint)
}

/// The error of a job that ends because the worker does.
pub fn shutting_down() -> WireError {
    WireError::new(
        ErrorCode::ShuttingDown,
        "The worker is shutting down.",
        "Start it again and repeat the job.",
    )
}

/// The error of a job whose deadline passed before it was done.
pub fn deadline_exceeded() -> WireError {
    WireError::new(
        ErrorCode::DeadlineExceeded,
        "The job's deadline passed before it was done.",
        "Submit it with a later deadline, or with a higher priority than your other jobs.",
    )
}

/// The error of a job for which a worker that is being drained has no room.
pub(super) fn draining() -> WireError {
    WireError::new(
        ErrorCode::ShuttingDown,
        "The worker is being drained: it finishes the jobs that it has and accepts no others.",
        "Submit the job to another worker, or again when this one has been restarted.",
    )
}

/// The error of a job for a model that the device does not have.
pub fn unknown_model(name: &str) -> WireError {
    WireError::new(
        ErrorCode::MissingModel,
        format!("This worker has no model `{name}`."),
        "Ask for one of the models that the worker was started with.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_their_meaning() {
        let missing = Error::MissingPart {
            part: "VAE",
            operation: "decode",
        };
        assert_eq!(wire_error(&missing).code, ErrorCode::MissingModel);
        let state = crate::pipeline::SnapshotError::NotASnapshot;
        assert_eq!(
            wire_error(&Error::Snapshot(state)).code,
            ErrorCode::InvalidRequest
        );
        let invalid = wire_error(&Error::invalid("bad size", "use 1024"));
        assert_eq!(invalid.code, ErrorCode::InvalidRequest);
        assert_eq!(invalid.message, "bad size");
        assert_eq!(invalid.hint, "use 1024");
    }
}
