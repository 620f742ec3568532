//! What can go wrong between a request and its tensors.

use crate::nn::is_out_of_memory;
use crate::text::first_line;

/// An operation's failure. Its text is one sentence for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the request is outside what the operation takes.
    #[error("{message}")]
    Invalid {
        /// What was wrong, and where.
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
    /// The model or a job does not fit the memory that there is.
    #[error("{message}")]
    TooLarge {
        /// What needs how much, and how much there is.
        message: String,
        /// What would fit.
        hint: String,
    },
    /// A result has values that are infinite or not numbers.
    #[error("the {name} that came out has values that are infinite or not numbers")]
    NotFinite {
        /// The result: `latent`, `image`, `conditioning`.
        name: &'static str,
    },
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
    /// An [`Error::Invalid`].
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// Whether the device ran out of memory.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Device(error) => is_out_of_memory(error),
            Self::TooLarge { .. } => true,
            _ => false,
        }
    }
}
