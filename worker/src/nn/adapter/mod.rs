//! Adapters applied to layers whose own weights stay as they are.
//!
//! - [`AdapterSet`]: what a stack of adapters changes in a network, and which set is current
//! - [`LayerChange`]: what it changes in one linear layer
//! - `replaced`: the tensors that it puts in the place of norms and other small parameters
//! - [`LowRank`]: the sum of its low-rank updates, as thin products beside the layer's own

mod change;
mod low_rank;
mod replaced;
mod set;

pub use change::LayerChange;
pub use low_rank::{LowRank, LowRankPart};
pub use set::{AdapterSet, LayerId};

pub(super) use replaced::{current, current_norms};
pub(super) use set::current_layer;
