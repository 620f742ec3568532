//! A job whose tensors are arriving.

use std::time::Duration;

use ovis_protocol::{
    Assembler, Chunk, ErrorCode, JobOptions, Request, TensorError, TensorHeader, WireError,
};
use tokio::time::Instant;

use crate::jobs::{Admitted, Content, ContentHasher};

/// How long an upload may wait for its next chunk.
pub const UPLOAD_PATIENCE: Duration = Duration::from_secs(60);

/// A job whose tensors are arriving.
pub struct Upload {
    /// What the job computes.
    pub request: Request,
    /// The tensors so far.
    pub assembler: Assembler,
    /// What the job was asked to do so far.
    pub hasher: ContentHasher,
    /// What the tensors are for.
    pub purpose: Purpose,
    /// When the upload began.
    pub begun: Instant,
    /// When the upload has waited too long for its next chunk.
    pub timeout: Instant,
}

/// What the tensors of an upload are for.
pub enum Purpose {
    /// A new job.
    New(Box<Admitted>, Box<JobOptions>),
    /// They are compared with those of a job that is already there, and not kept.
    Repeat(Content),
}

impl Upload {
    /// An upload for a job of this model, whose bytes go to `assembler`.
    ///
    /// # Errors
    /// Those of [`ContentHasher::new`].
    pub fn new(
        request: Request,
        model: Option<&str>,
        headers: &[TensorHeader],
        assembler: Assembler,
        purpose: Purpose,
    ) -> Result<Self, WireError> {
        Ok(Self {
            hasher: ContentHasher::new(&request, model, headers)?,
            request,
            assembler,
            purpose,
            begun: Instant::now(),
            timeout: Instant::now() + UPLOAD_PATIENCE,
        })
    }

    /// Whether every byte has arrived.
    pub fn is_complete(&self) -> bool {
        self.assembler.is_complete()
    }

    /// Takes in the next chunk and says whether every byte has arrived.
    ///
    /// # Errors
    /// `BadMessage` if it is not the chunk that comes next.
    pub fn push(&mut self, chunk: &Chunk) -> Result<bool, WireError> {
        let is_complete = self
            .assembler
            .push(chunk.tensor, chunk.offset, &chunk.data)
            .map_err(|error| WireError::new(ErrorCode::BadMessage, sentence(&error), ""))?;
        self.hasher.update(chunk.tensor, &chunk.data);
        self.timeout = Instant::now() + UPLOAD_PATIENCE;
        Ok(is_complete)
    }
}

/// The refusal of headers that exceed a limit.
pub fn invalid(error: &TensorError) -> WireError {
    WireError::new(ErrorCode::InvalidRequest, sentence(error), "")
}

/// An error's text as a sentence.
fn sentence(error: &TensorError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => text,
    }
}
