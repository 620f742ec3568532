//! The models of a worker: their names, what each can do, and where its weights are.

use bincode::{Decode, Encode};

use crate::limits::MAX_MODEL_NAME_BYTES;

/// A model that a worker has.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ModelInfo {
    /// The name that jobs ask for it by; see [`is_model_name`].
    pub name: String,
    /// Display name of its checkpoint.
    pub model: String,
    /// Display name of the precision of its weights and arithmetic.
    pub precision: String,
    /// The operations it can do, by [`Request::name`](crate::Request::name).
    pub operations: Vec<String>,
    /// Number of channels of its latents.
    pub latent_channels: u32,
    /// D of its conditioning.
    pub conditioning_width: u32,
}

/// Where a model's weights are.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ModelState {
    /// The model's name.
    pub name: String,
    /// Where its weights are.
    pub state: Residence,
    /// Bytes of its weights in the device's memory; on a CPU, in the process's.
    pub bytes: u64,
}

/// Where weights are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Residence {
    /// `0`: In their files only. A job for the model loads them.
    #[default]
    Unloaded,
    /// `1`: In the host's memory. A job for the model copies them to the device.
    Host,
    /// `2`: In part on the device. The rest is copied while a job runs.
    Partly,
    /// `3`: On the device.
    Resident,
}

impl Residence {
    /// The state's name, for people and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Host => "host",
            Self::Partly => "partly",
            Self::Resident => "resident",
        }
    }
}

/// Whether a text may name a model: 1 to [`MAX_MODEL_NAME_BYTES`] of the characters
/// `A-Z a-z 0-9 . _ -`.
pub fn is_model_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_MODEL_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        let long = "x".repeat(MAX_MODEL_NAME_BYTES + 1);
        for name in ["default", "ovis-fp8", "Q4_K", "a.b", &long[1..]] {
            assert!(is_model_name(name), "{name}");
        }
        for name in ["", "a b", "a/b", "a\n", "模型", &long] {
            assert!(!is_model_name(name), "{name:?}");
        }
    }
}
