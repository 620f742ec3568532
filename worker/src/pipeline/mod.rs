//! From prompts to pixels: encode, denoise one step at a time, preview, decode.

mod budget;
mod capabilities;
mod codec;
mod costs;
mod denoise;
mod error;
mod fit;
mod free_memory;
mod geometry;
mod load;
mod output;
mod plan;
mod preview;
mod prompt;
mod types;
mod warm_up;

pub use budget::{device_memory_left, parse_bytes, shown_bytes, Budget};
pub use costs::{Ask, Cost, Costs};
pub use denoise::DenoiseState;
pub use error::{Error, Result};
pub use fit::{Parameters, Shortage};
pub use geometry::Geometry;
pub use load::{Parts, Pipeline};
pub use output::Output;
pub use plan::check_request;
pub use prompt::{check_length, most_conditioning, PREFIX_POSITIONS};
pub use types::{Conditioning, DenoiseInputs, Forwards, Image, Latent, Preview, StepReport};
