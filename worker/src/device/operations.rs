//! A job's operations on a model, with errors and panics turned into the job's failure.

use std::panic::{catch_unwind, AssertUnwindSafe};

use ovis_protocol::{DenoiseRequest, ErrorCode, PromptCut, WireError};

use super::backend::Backend;
use crate::jobs::{wire_error, Resume};
use crate::nn::Operation;
use crate::pipeline::{DenoiseInputs, Output, Result};
use crate::text::panic_text;

/// The result of an operation that is not a denoise step.
pub(super) struct Product {
    pub output: Output,
    pub cuts: Vec<PromptCut>,
}

impl From<Output> for Product {
    fn from(output: Output) -> Self {
        Self {
            output,
            cuts: Vec::new(),
        }
    }
}

/// Runs backend work within an operation's bounds. An error or a panic becomes the job's
/// failure.
pub(super) fn guarded<T>(
    operation: Operation,
    work: impl FnOnce() -> Result<T>,
) -> std::result::Result<T, WireError> {
    match catch_unwind(AssertUnwindSafe(|| operation.run(work))) {
        Ok(result) => result.map_err(|error| wire_error(&error)),
        Err(panic) => Err(WireError::new(
            ErrorCode::Internal,
            format!("The worker failed unexpectedly: {}", panic_text(&*panic)),
            "This is a defect of the worker; its log says where.",
        )),
    }
}

/// Prepares a denoise job, from its beginning or from a written state.
pub(super) fn start_denoise<B: Backend>(
    backend: &mut B,
    request: &DenoiseRequest,
    inputs: DenoiseInputs,
    resume: Option<Resume>,
) -> Result<B::Denoise> {
    let Some(Resume { state, is_optional }) = resume else {
        return backend.start_denoise(request, inputs);
    };
    match backend.resume_denoise(request, inputs.clone(), &state) {
        Ok(job) => {
            let step = backend.report(&job).step;
            tracing::info!(step, "goes on from a written state");
            Ok(job)
        }
        Err(error) if is_optional => {
            tracing::warn!(%error, "the written state cannot be used; the job begins anew");
            backend.start_denoise(request, inputs)
        }
        Err(error) => Err(error),
    }
}
