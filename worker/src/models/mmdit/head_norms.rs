//! The attention heads of the transformer's blocks.

use crate::checkpoint::MmditConfig;
use crate::models::builder::{Builder, Built};
use crate::nn::{HeadNorms, Heads};

/// Epsilon of every norm in the transformer, as in diffusers and ComfyUI. The original leaves
/// PyTorch's dtype-dependent default for the norms of queries and keys.
pub(super) const EPS: f64 = 1e-6;

/// Query and key head counts are equal (24).
pub fn heads(config: &MmditConfig) -> Heads {
    Heads {
        query: config.num_heads,
        key: config.num_heads,
    }
}

/// The norms of a block's query and key heads.
pub(super) fn head_norms(at: &Builder, head_dim: usize) -> Built<HeadNorms> {
    Ok(HeadNorms {
        query: at.tensor("query_norm.weight", &[head_dim])?,
        key: at.tensor("key_norm.weight", &[head_dim])?,
    })
}
