//! Errors as a worker reports them: a code for programs, a sentence and a hint for people.

use bincode::{Decode, Encode};

use crate::text::{bounded, SENTENCE_CHARS};

/// The kind of an error, for clients to match on. A code keeps its number and its meaning in
/// all later versions; new codes are appended. On the wire it is a `u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ErrorCode {
    /// `0`: Client and worker speak different protocol versions.
    VersionMismatch,
    /// `1`: The worker requires a token, and the client sent none or a wrong one.
    Unauthorized,
    /// `2`: A frame could not be decoded, or a message arrived out of sequence.
    BadMessage,
    /// `3`: A value of the request is outside the operation's range.
    InvalidRequest,
    /// `4`: The queue is full, and the job was not accepted.
    QueueFull,
    /// `5`: The worker has no model or adapter of this name, or its checkpoint lacks a part that
    /// the job needs.
    MissingModel,
    /// `6`: The job needs more memory than there is, or the device ran out of memory.
    OutOfMemory,
    /// `7`: The worker is shutting down.
    ShuttingDown,
    /// `8`: The worker failed for a reason that the client did not cause.
    Internal,
    /// `9`: The worker has no job of this owner with this UUID.
    UnknownJob,
    /// `10`: The owner has a job with this UUID and another request.
    Conflict,
    /// `11`: The job's deadline passed before it was done.
    DeadlineExceeded,
    /// `12`: The client's token lacks the role that the message requires.
    Forbidden,
    /// `13`: The job had ended, and its result was dropped before the client acknowledged it:
    /// it was kept for too long, or others needed the room.
    Expired,
    /// `14`: The worker understands the request and cannot do what a field of it asks for.
    Unsupported,
}

impl ErrorCode {
    /// All codes, by number.
    pub const ALL: [Self; 15] = [
        Self::VersionMismatch,
        Self::Unauthorized,
        Self::BadMessage,
        Self::InvalidRequest,
        Self::QueueFull,
        Self::MissingModel,
        Self::OutOfMemory,
        Self::ShuttingDown,
        Self::Internal,
        Self::UnknownJob,
        Self::Conflict,
        Self::DeadlineExceeded,
        Self::Forbidden,
        Self::Expired,
        Self::Unsupported,
    ];

    /// The code's name, as stable as its number, for logs and user interfaces.
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
            Self::Conflict => "conflict",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Forbidden => "forbidden",
            Self::Expired => "expired",
            Self::Unsupported => "unsupported",
        }
    }
}

/// An error to show to the user.
#[derive(Clone, Debug, PartialEq, Encode, Decode, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// The kind of the error.
    pub code: ErrorCode,
    /// One sentence that says what was wrong, and where.
    pub message: String,
    /// What the user can do about it; may be empty.
    pub hint: String,
    /// Seconds after which the same request may succeed; `None` if waiting does not help.
    pub retry_after: Option<f32>,
}

impl WireError {
    /// An error with a code, a sentence and a hint. Sentence and hint may quote what a client
    /// sent, so [`bounded`] escapes them and shortens them to [`SENTENCE_CHARS`].
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            message: bounded(&message.into(), SENTENCE_CHARS),
            hint: bounded(&hint.into(), SENTENCE_CHARS),
            retry_after: None,
        }
    }

    /// The same error with the number of seconds after which the request may succeed.
    pub fn retry_after(self, seconds: f32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_codes_are_listed_by_number() {
        let config = bincode::config::standard().with_fixed_int_encoding();
        for (number, code) in (0u32..).zip(ErrorCode::ALL) {
            let bytes = number.to_le_bytes();
            let decoded = bincode::decode_from_slice::<ErrorCode, _>(&bytes, config);
            assert_eq!(decoded.unwrap().0, code);
        }
        let next = (ErrorCode::ALL.len() as u32).to_le_bytes();
        assert!(bincode::decode_from_slice::<ErrorCode, _>(&next, config).is_err());
    }

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
