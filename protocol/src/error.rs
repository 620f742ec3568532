//! Error codes a client may match on.

use bincode::{Decode, Encode};

use crate::text::{bounded, SENTENCE_CHARS};

/// What kind of thing went wrong. Codes are stable: a code keeps its number and
/// meaning for ever; new ones are appended. On the wire a `u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ErrorCode {
    /// `0`: The peers speak different protocol versions.
    VersionMismatch,
    /// `1`: The worker wants a token and got none, or another.
    Unauthorized,
    /// `2`: The bytes were not a message, or a message came out of turn.
    BadMessage,
    /// `3`: A value of the request is outside what the operation takes.
    InvalidRequest,
    /// `4`: The queue is full; the job was not accepted.
    QueueFull,
    /// `5`: The loaded checkpoint lacks the part that the job needs.
    MissingModel,
    /// `6`: The job can never fit the memory there is, or the device ran out of it.
    OutOfMemory,
    /// `7`: The worker is shutting down.
    ShuttingDown,
    /// `8`: The worker failed in a way that is not the client's doing.
    Internal,
    /// `9`: The job's UUID is unknown, or already taken.
    UnknownJob,
}

impl ErrorCode {
    /// The code's stable name, for logs and for clients that show one.
    pub fn name(self) -> &'static str {
        match self {
            Self::VersionMismatch => "version-mismatch",
            Self::Unauthorized => "unauthorized",
            Self::BadMessage => "bad-message",
            Self::InvalidRequest => "invalid-request",
            Self::QueueFull => "queue-full",
            Self::MissingModel => "missing-model",
            Self::OutOfMemory => "out-of-memory",
            Self::ShuttingDown => "shutting-down",
            Self::Internal => "internal",
            Self::UnknownJob => "unknown-job",
        }
    }
}

/// An error as a person should see it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// What kind of thing went wrong.
    pub code: ErrorCode,
    /// One sentence: what was wrong, and where.
    pub message: String,
    /// What to do about it; empty when there is nothing to add.
    pub hint: String,
}

impl WireError {
    /// An error with a code, a sentence and a hint. They may repeat what a stranger sent, so
    /// they are cut to [`SENTENCE_CHARS`] and escaped to be one line, as [`bounded`] does.
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            message: bounded(&message.into(), SENTENCE_CHARS),
            hint: bounded(&hint.into(), SENTENCE_CHARS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_repeats_is_bounded_and_on_one_line() {
        let name = format!("no sampler `\n\u{1b}[2J{}`", "x".repeat(1 << 20));
        let error = WireError::new(ErrorCode::InvalidRequest, name.clone(), name);
        for text in [error.message, error.hint] {
            assert!(text.starts_with("no sampler `\\n\\u{1b}[2Jxxx"));
            assert_eq!(text.chars().count(), SENTENCE_CHARS + 1);
        }
    }
}
