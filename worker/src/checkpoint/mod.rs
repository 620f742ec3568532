//! Which files are these, and where in them is each tensor.
//!
//! [`Checkpoint::open`] recognises a layout, finds the parts in it, reads their
//! geometry and maps their names to one spelling; it reads headers only.
//! Weights stay in mapped files until [`PartTensors::get`] takes them.
//!
//! - `named`, `hub`: what a typed path means, and Hugging Face's cache
//! - `layout`, `choose`: where each part may lie under a path, and which candidate is taken
//! - `folder`, `shards`: listing folders, and which files in one are its weights
//! - `file`, `header`, `set`: one safetensors file, and a part's tensors from its shards
//! - `foreign`, `absent`: what lies there instead of weights
//! - `mixed`: how all-in-one checkpoints and adapters are told
//! - `part`: the table of canonical names and how each tensor is made
//! - `read_ahead`: has the system map the files before they are read
//! - `scaled_fp8`: ComfyUI's 8-bit floats and their scales
//! - `mmdit`, `qwen3`, `vae`: geometry and names of each part
//! - `vae_others`: how other models' autoencoders are told
//! - `tokenizer`: the tokenizer's files and Qwen's byte-level BPE
//!
//! Canonical names are the original's for the transformer (with the up and
//! gate projections of the double blocks joined as `up_gate`), transformers'
//! without `model.` for the text encoder, FLUX.1's for the VAE (with the mid
//! attention as linear layers).

mod absent;
mod checkpoint;
mod choose;
mod error;
mod file;
mod folder;
mod foreign;
mod header;
mod hub;
mod json;
mod layout;
mod mixed;
mod mmdit;
mod named;
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

pub use checkpoint::{Checkpoint, CheckpointArgs, TextEncoderPart, TransformerPart, VaePart};
pub use error::WeightsError;
pub use folder::Skipped;
pub use foreign::Foreign;
pub use layout::Layout;
pub use part::{Ignored, LoadProgress, PartTensors, Watch};
pub use text::shown;
pub use tokenizer::TokenizerFiles;
pub use vae::NATIVE_SIZE;

/// The parts, as messages call them.
const TRANSFORMER: &str = "transformer";
const TEXT_ENCODER: &str = "text encoder";
const VAE: &str = "VAE";
