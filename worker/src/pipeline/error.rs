//! Errors of the pipeline's operations.

use crate::checkpoint::{AdapterError, WeightsError};
use crate::nn::is_out_of_memory;
use crate::sampling::SnapshotError;
use crate::text::first_line;

/// Why an operation failed. The text is one sentence for the person who made the request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the request is outside the range that the operation accepts.
    #[error("{message}")]
    Invalid {
        /// What is wrong, and where.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// The loaded checkpoint lacks a part.
    #[error("the loaded checkpoint has no {part}, which {operation} needs")]
    MissingPart {
        /// The part: `transformer`, `text encoder`, `VAE`, `tokenizer`.
        part: &'static str,
        /// The operation that needs it.
        operation: &'static str,
    },
    /// The worker lacks an adapter that the job names.
    #[error("{message}")]
    MissingAdapter {
        /// Which one.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// The model or a job needs more memory than there is.
    #[error("{message}")]
    TooLarge {
        /// What needs how much memory, and how much there is.
        message: String,
        /// What would fit.
        hint: String,
    },
    /// A result has infinite values or NaNs.
    #[error("the {name} that came out has values that are infinite or not numbers")]
    NotFinite {
        /// The result: `latent`, `image`, `conditioning`.
        name: &'static str,
    },
    /// A snapshot of a job cannot be made or resumed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The tokenizer failed.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
    /// The device or its arithmetic failed.
    #[error("the device failed: {}", first_line(.0))]
    Device(#[from] candle_core::Error),
}

/// Result of a pipeline operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an [`Error::Invalid`].
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The sentence, followed by what to do.
    pub fn with_hint(&self) -> String {
        let hint = match self {
            Self::Invalid { hint, .. }
            | Self::MissingAdapter { hint, .. }
            | Self::TooLarge { hint, .. } => &hint[..],
            _ => "",
        };
        format!("{self}. {hint}").trim_end().to_owned()
    }

    /// Whether the cause is a state that a job cannot go on from.
    pub fn is_bad_snapshot(&self) -> bool {
        match self {
            Self::Snapshot(error) => !matches!(error, SnapshotError::Device(_)),
            _ => false,
        }
    }

    /// Whether the cause is too little memory.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Device(error) | Self::Snapshot(SnapshotError::Device(error)) => {
                is_out_of_memory(error)
            }
            Self::TooLarge { .. } => true,
            _ => false,
        }
    }
}

impl From<AdapterError> for Error {
    fn from(error: AdapterError) -> Self {
        Self::invalid(error.to_string(), error.hint())
    }
}

impl From<WeightsError> for Error {
    fn from(error: WeightsError) -> Self {
        Self::invalid(error.to_string(), error.hint())
    }
}
