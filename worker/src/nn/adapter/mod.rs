//! Adapters applied to layers whose own weights stay as they are.
//!
//! - [`AdapterSet`]: what a stack of adapters changes in a network, and which set is current
//! - [`LayerChange`]: what it changes in one linear layer
//! - [`LowRank`]: the sum of its low-rank updates, as thin products beside the layer's own

mod change;
mod low_rank;
mod set;

pub use change::LayerChange;
pub use low_rank::{LowRank, LowRankPart};
pub use set::{AdapterSet, LayerId};

pub(super) use set::{current, current_layer, current_norms};
