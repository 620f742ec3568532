//! Which files are these, and where in them is each tensor.
//!
//! [`Checkpoint::open`] recognises a layout, finds the parts in it, reads their
//! geometry and maps their names to one spelling; it reads headers only.
//! Weights stay in mapped files until [`PartTensors::get`] takes them.
//!
//! - `open`: a checkpoint opened, part by part
//! - `named`, `hub`: what a typed path means, and Hugging Face's cache
//! - `layout`, `choose`: where each part may lie under a path, and which candidate is taken
//! - `folder`, `shards`: listing folders, and which files in one are its weights
//! - `file`, `header`, `set`: one safetensors file, and a part's tensors from its shards
//! - `foreign`, `absent`: what lies there instead of weights
//! - `mixed`: how all-in-one checkpoints and adapters are told
//! - `part`: the table of canonical names and how each tensor is made
//! - `read_ahead`: has the system map the files before they are read
//! - `scaled_fp8`: ComfyUI's 8-bit floats and their scales
//! - `geometry`: what shapes and configs say about each network
//! - `mmdit`, `qwen3`, `vae`: how geometry is read, and the names of each part
//! - `vae_others`: how other models' autoencoders are told
//! - `tokenizer`: the tokenizer's files and Qwen's byte-level BPE
//!
//! Canonical names are the original's for the transformer (with the up and
//! gate projections of the double blocks joined as `up_gate`), transformers'
//! without `model.` for the text encoder, FLUX.1's for the VAE (with the mid
//! attention as linear layers).

mod absent;
mod choose;
mod error;
mod file;
mod folder;
mod foreign;
mod geometry;
mod header;
mod hub;
mod json;
mod layout;
mod mixed;
mod mmdit;
mod named;
mod open;
mod part;
mod qwen3;
mod read_ahead;
mod scaled_fp8;
mod set;
mod shards;
mod text;
mod tokenizer;
mod vae;
mod vae_others;

pub use error::WeightsError;
pub use folder::Skipped;
pub use foreign::Foreign;
pub use geometry::{
    MmditConfig, Qwen3Config, VaeConfig, FLUX_SCALING_FACTOR, FLUX_SHIFT_FACTOR, NATIVE_SIZE,
    TIME_EMBEDDING_WIDTH,
};
pub use layout::Layout;
pub use open::{Checkpoint, CheckpointArgs, TextEncoderPart, TransformerPart, VaePart};
pub use part::{Ignored, LoadProgress, PartTensors, Watch};
pub use text::shown;
pub use tokenizer::TokenizerFiles;

/// The parts, as messages call them.
const TRANSFORMER: &str = "transformer";
const TEXT_ENCODER: &str = "text encoder";
const VAE: &str = "VAE";
