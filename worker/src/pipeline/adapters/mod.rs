//! Adapters on a loaded model: opened once, fitted to it, and applied to each job by itself.
//!
//! - [`AdapterStack`]: which adapters a job applies, how strongly, and when
//! - [`FittedAdapter`]: an opened adapter, with its factors on the model's device
//! - `network`, `layer`, `build`: from the changes of a stack to what the network's layers look up
//! - `phases`: the stacks of a denoise job whose adapters apply to some sigmas only
//! - `size`: the memory that adapters take
//! - `store`: the opened adapters and the sets made of them, within a limit of memory

mod build;
mod fitted;
mod layer;
mod network;
mod phases;
mod size;
mod stack;
mod store;
#[cfg(test)]
mod tests;

pub use fitted::FittedAdapter;
pub use stack::{AdapterStack, StackedAdapter};
pub use store::DEFAULT_ADAPTER_MEMORY;

pub(super) use fitted::Stamp;
pub(super) use network::{AdaptedPart, Network};
pub(super) use phases::AdapterPhases;
pub(super) use size::Size;
pub(super) use store::AdapterStore;
