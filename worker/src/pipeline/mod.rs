//! From prompts to pixels: encode, denoise one step at a time, decode.

mod backend;
mod codec;
mod denoise;
mod error;
mod load;
mod prompt;
mod types;

pub use denoise::{check_request, DenoiseState};
pub use error::{Error, Result};
pub use load::{Parts, Pipeline};
pub use prompt::check_length;
pub use types::{Conditioning, DenoiseInputs, Image, Latent, StepReport};
