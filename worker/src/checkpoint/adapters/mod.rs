//! Reads adapters: LoRA and its relatives, in every layout that trainers write.
//!
//! [`Adapter::open`] maps each tensor of a file to a module of the model, whatever the file calls
//! it, and types what each module does to the rows of a canonical tensor. A [`Change`] can be
//! merged into rows of a weight on the host ([`Change::merge`]), or be taken apart by a layer that
//! applies it to its input ([`Change::low_rank`], or the factors of its [`Delta`] as stored bytes).
//! Nothing here knows devices.
//!
//! From names to changes:
//! - `key`: what a tensor is to its module, by its name
//! - `names`, `places`: which rows of the model a module changes, by its name
//! - `module`, `stored`, `build`: the tensors of a module, checked and typed
//! - `settings`: alpha and ranks from metadata and peft's `adapter_config.json`
//! - `open`: the whole file, fitted to a model
//! - `info`, `summary`: what a file says about itself, and what it holds
//!
//! Changes:
//! - `delta`, `factor`: their types, and their matrices as the file stores them
//! - `merge`, `rows`, `rotate`: the new weight, in float64
//! - `merged`: a file of a part with adapters merged into it
//! - `low_rank`: the change as a product of two thin matrices, where it is exactly one
//!
//! - `error`: refusals and their sentences

mod build;
mod delta;
mod error;
mod factor;
mod info;
mod key;
mod low_rank;
mod merge;
mod merged;
mod module;
mod names;
mod open;
mod places;
mod rotate;
mod rows;
mod settings;
mod stored;
mod summary;
#[cfg(test)]
mod tests;

pub use delta::{Change, Delta, Magnitude, Product, Rotation, Side};
pub use error::AdapterError;
pub use factor::Factor;
pub use info::{AdapterInfo, Preview};
pub use low_rank::LowRank;
pub use merged::{MergeError, MergedFile};
pub use open::{AdaptedModel, Adapter, AdapterFile};
pub use places::Place;
pub use summary::Summary;
