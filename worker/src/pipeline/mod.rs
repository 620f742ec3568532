//! The operations from prompts to pixels: encode, denoise one step at a time, preview, decode
//! and VAE encode; and what they cost before they run.
//!
//! - [`Pipeline`]: the loaded model, with a method for each operation
//! - [`DenoiseState`]: a denoise job between two steps, which can be written out as a
//!   [`Snapshot`] and resumed
//! - [`Conditioning`], [`Latent`], [`Image`]: tensors with a checked shape
//! - [`check_request`]: the checks of a denoise request that need no model
//! - [`Ask`], [`Cost`], [`Budget`]: a job by its shapes, the memory it takes, the memory there is
//! - [`plan`](plan()), [`Plan`], [`MemoryReport`]: what stays on a GPU within a budget
//! - [`Outline`]: a model that is not loaded
//! - [`AdapterStack`]: the adapters that a job applies to the resident weights
//! - [`Geometry`]: the sizes of a model, for one with random weights

mod abilities;
mod adapted;
mod adapters;
mod ask;
mod budget;
mod capabilities;
mod codec;
mod costs;
mod denoise;
mod denoiser;
mod error;
mod estimates;
mod fingerprint;
mod fit;
mod free_memory;
mod geometry;
mod inputs;
mod library;
mod load;
mod loading;
mod memory;
mod modulations;
mod outline;
mod output;
mod plan;
mod preview;
mod prompt;
mod residence;
mod scaling;
mod types;
mod vae_part;
mod warm_up;

#[cfg(test)]
mod resumed;
#[cfg(test)]
mod streamed;
#[cfg(test)]
mod testing;

pub use adapters::{AdapterStack, FittedAdapter, StackedAdapter, DEFAULT_ADAPTER_MEMORY};
pub use ask::{Ask, Cost};
pub use budget::{device_memory_left, parse_bytes, shown_bytes, Budget, NotBytes};
pub use costs::Costs;
pub use denoise::DenoiseState;
pub use error::{Error, Result};
pub use fit::{Parameters, Shortage};
pub use free_memory::free_host_memory;
pub use geometry::Geometry;
pub use library::{AdaptedCheckpoint, AdapterLibrary, NewAdapter};
pub use load::Pipeline;
pub use memory::{
    plan, Facts, GroupReport, HostFacts, Impossible, Machine, MemoryReport, Plan, Sizes, Storage,
    Target,
};
pub use outline::Outline;
pub use output::Output;
pub use plan::check_request;
pub use prompt::{
    check_length, most_conditioning, most_positions, tokenize, TokenizedPrompt, PREFIX_POSITIONS,
};
pub use types::{
    Conditioning, DenoiseInputs, Forwards, Image, Latent, Preview, StepReport, SIZE_MULTIPLE,
};

pub use crate::sampling::{Snapshot, SnapshotError};
