//! The error that every command ends with.

use crate::logging;

/// Exit status when the device works no more: `EX_TEMPFAIL` of `sysexits.h`. A supervisor is to
/// start the worker again.
pub(super) const DEVICE_FAILED: u8 = 75;

/// An error as a command reports it: a sentence, a hint and an exit status.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// One sentence that says what was wrong, and where.
    pub(super) message: String,
    /// What the user can do about it; may be empty.
    pub(super) hint: String,
    /// The program's exit status.
    pub(super) status: u8,
}

impl CliError {
    /// An error with a sentence and a hint, which may be empty, and exit status 1.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
            status: 1,
        }
    }

    /// The same error with another exit status.
    pub fn with_status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// Combines the errors of independent steps into one, with the hint of the last.
    ///
    /// # Errors
    /// The combined error, unless `errors` is empty.
    pub fn all(errors: Vec<Self>) -> Result<(), Self> {
        let hint = errors.last().map(|error| error.hint.clone());
        let Some(hint) = hint else { return Ok(()) };
        let messages: Vec<_> = errors.into_iter().map(|error| error.message).collect();
        Err(Self::new(messages.join("; "), hint))
    }

    /// Writes the sentence and the hint to standard error, one line each.
    pub(super) fn say(&self) {
        logging::say(&format!("error: {}", self.message));
        if !self.hint.is_empty() {
            logging::say(&format!("hint: {}", self.hint));
        }
    }
}

impl From<crate::checkpoint::WeightsError> for CliError {
    fn from(error: crate::checkpoint::WeightsError) -> Self {
        Self::new(error.to_string(), error.hint())
    }
}

impl From<crate::checkpoint::AdapterError> for CliError {
    fn from(error: crate::checkpoint::AdapterError) -> Self {
        Self::new(error.to_string(), error.hint())
    }
}

impl From<crate::pipeline::Error> for CliError {
    fn from(error: crate::pipeline::Error) -> Self {
        let hint = match &error {
            crate::pipeline::Error::Invalid { hint, .. }
            | crate::pipeline::Error::MissingAdapter { hint, .. }
            | crate::pipeline::Error::TooLarge { hint, .. } => hint.clone(),
            _ => String::new(),
        };
        Self::new(error.to_string(), hint)
    }
}
