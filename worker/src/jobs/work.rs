//! What a job computes.

use ovis_protocol::{DenoiseRequest, EncodeRequest};

use crate::pipeline::{DenoiseInputs, Image, Latent};

/// An operation and its inputs, with all tensors on the CPU.
pub enum Work {
    /// Prompts to conditioning.
    Encode(EncodeRequest),
    /// Conditioning and latent to latent.
    Denoise(Box<DenoiseRequest>, DenoiseInputs),
    /// Latent to image.
    Decode(Latent),
    /// Image to latent.
    VaeEncode(Image),
}

impl Work {
    /// Every operation's name, as `Request::name` spells it.
    pub const OPERATIONS: [&'static str; 4] = ["encode", "denoise", "decode", "vae-encode"];

    /// The operation's name, one of [`OPERATIONS`](Self::OPERATIONS).
    pub fn name(&self) -> &'static str {
        match self {
            Self::Encode(_) => "encode",
            Self::Denoise(..) => "denoise",
            Self::Decode(_) => "decode",
            Self::VaeEncode(_) => "vae-encode",
        }
    }

    /// The work of a denoise job: steps times elements of its latent. `None` for the other
    /// operations, which are short enough to run between two denoise steps.
    pub fn denoise_work(&self) -> Option<u64> {
        match self {
            Self::Denoise(request, inputs) => {
                Some(u64::from(request.steps) * inputs.latent.elements())
            }
            _ => None,
        }
    }
}
