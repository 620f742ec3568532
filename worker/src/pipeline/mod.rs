//! From prompts to pixels: encode, denoise one step at a time, decode.

mod error;
mod types;

pub use error::{Error, Result};
pub use types::{Conditioning, DenoiseInputs, Image, Latent, StepReport};
