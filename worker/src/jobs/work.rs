//! What a job computes.

use ovis_protocol::{DenoiseRequest, EncodeRequest};

use crate::pipeline::{DenoiseInputs, Image, Latent};

/// An operation and its inputs, with all tensors on the CPU.
pub enum Work {
    /// Prompts to conditioning.
    Encode(EncodeRequest),
    /// Conditioning and latent to latent, from the beginning or from a state.
    Denoise(Box<DenoiseRequest>, DenoiseInputs, Option<Resume>),
    /// Latent to image.
    Decode(Latent),
    /// Image to latent.
    VaeEncode(Image),
}

/// The written state that a denoise job goes on from.
pub struct Resume {
    /// The state, as [`Snapshot`](crate::pipeline::Snapshot) writes it.
    pub state: Vec<u8>,
    /// Whether a state that does not belong to the job and the model is ignored, so that the
    /// job begins anew. Otherwise it fails the job.
    pub is_optional: bool,
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
            Self::Denoise(request, inputs, _) => {
                Some(u64::from(request.steps) * inputs.latent.elements())
            }
            _ => None,
        }
    }
}
