//! Ovis-Image's multimodal diffusion transformer.
//!
//! Source: AIDC-AI/Ovis-Image `ovis_image/model/{model,layers}.py`.

mod double;
mod head_norms;
mod modulation;
mod modulators;
mod network;
mod single;

pub use head_norms::heads;
pub use modulation::Modulations;
pub use network::{BranchInput, Mmdit};
