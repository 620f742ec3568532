//! Opens checkpoints: which files they consist of, and where each tensor lies in them.
//!
//! [`Checkpoint::open`] recognises a layout, finds the parts in it, reads their headers and
//! geometry, and maps each tensor of a model to tensors and rows of files. Weights stay in
//! the mapped files; [`PartTensors`] hands out their bytes for as long as it is kept.
//! Nothing here knows devices or computes with weights.
//!
//! Finding files:
//! - `args`, `open`: the paths a person gives, and the checkpoint opened from them
//! - `named`, `hub`: resolving a typed path, and Hugging Face's cache
//! - `layout`, `comfy`, `choose`: where each part may lie, and which candidate is used
//! - `folder`, `shards`: listing folders, and which files in one are its weights
//! - `foreign`, `absent`, `mixed`, `vae_others`: recognising everything else
//!
//! Reading them:
//! - `source`: the interface of whatever stores tensors
//! - `mapped`, `file`: files in memory, and as sources of tensors
//! - `header`, `header_refusal`: headers of safetensors files
//! - `gguf`: GGUF files
//! - `random`: random weights
//! - `set`, `coded`: one part's tensors from its files, and the scales and rotations of 8-bit ones
//! - `json`, `config`, `fields`: `config.json`
//! - `tokenizer`, `qwen_bpe`: the tokenizer's files, and Qwen's byte-level BPE from them
//!
//! Mapping them to models:
//! - `geometry`: sizes of each network
//! - `mmdit`, `qwen3`, `vae`: recognising a part and reading its geometry
//! - `name_map`, `mmdit_names`, `vae_names`: the naming schemes of files
//! - `table`, `piece`, `part`: the map resolved against the files, and kept
//! - `read_ahead`: reading files into memory before they are loaded
//!
//! Writing them:
//! - `convert`: one part in another precision and layout
//!
//! Changing them:
//! - `adapters`: LoRA and its relatives
//!
//! - `error`, `error_text`, `text`, `part_names`: refusals and their sentences
//!
//! Canonical names are the original release's for the transformer (with the up and gate
//! projections of the double blocks joined as `up_gate`), those of transformers without
//! `model.` for the text encoder, and FLUX.1's for the VAE (with the layers of the mid
//! attention as matrices).

mod absent;
mod adapters;
mod args;
mod choose;
mod coded;
mod comfy;
mod config;
mod convert;
mod error;
mod error_text;
mod fields;
mod file;
mod folder;
mod foreign;
mod geometry;
mod gguf;
mod header;
mod header_refusal;
mod hub;
mod json;
mod layout;
mod mapped;
mod mixed;
mod mmdit;
mod mmdit_names;
mod name_map;
mod named;
mod open;
mod part;
mod part_names;
mod piece;
mod qwen3;
mod qwen_bpe;
mod random;
mod read_ahead;
mod set;
mod shards;
mod source;
mod table;
#[cfg(test)]
pub mod test_files;
mod text;
mod tokenizer;
mod vae;
mod vae_names;
mod vae_others;

pub use adapters::{
    AdaptedModel, Adapter, AdapterError, AdapterFile, AdapterInfo, Change, Delta, Factor, LowRank,
    Magnitude, MergeError, MergedFile, Place, Preview, Product, Rotation, Side, Summary,
};
pub use args::CheckpointArgs;
pub use convert::{Conversion, FileLayout, Target, WriteError};
pub use error::WeightsError;
pub use folder::Skipped;
pub use foreign::Foreign;
pub use geometry::{
    MmditConfig, Qwen3Config, VaeConfig, FLUX_SCALING_FACTOR, FLUX_SHIFT_FACTOR, NATIVE_SIZE,
    TIME_EMBEDDING_WIDTH,
};
pub use layout::Layout;
pub use mapped::MappedFile;
pub use open::{Checkpoint, TextEncoderPart, TransformerPart, VaePart};
pub use part::{Ignored, LoadProgress, PartTensors, Watch};
pub use piece::{FileTensor, ModelTensor, Piece};
pub use random::RandomWeights;
pub use source::{Fill, StoredType, TensorEntry, TensorSource};
pub use text::shown;
pub use tokenizer::TokenizerFiles;
