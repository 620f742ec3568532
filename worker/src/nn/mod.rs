//! The building blocks of networks. No other room asks which device it is on.
//!
//! Each function is the plain tensor expression that defines it: its CPU path, its gradient and
//! its test's reference. What a device computes faster is behind one seam, the trait [`Fused`],
//! which `cuda/` implements.

mod adapter;
mod attention;
mod backend;
mod block;
mod blocks;
mod conv;
mod copy;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod embedding;
mod factors;
mod footprint;
mod fused;
mod gradients;
mod heads;
mod latents;
mod linear;
mod memory;
mod mlp;
mod no_gpu;
mod norm;
mod operation;
mod paths;
mod placement;
mod pointwise;
mod product;
mod quantize;
mod rope;
mod scaled_rows;
mod stream;
#[cfg(test)]
mod tests;
mod weight;

pub use adapter::{AdapterSet, LayerChange, LayerId, LowRank, LowRankPart};
pub use attention::{
    attention, attention_and_swiglu, single_head, unmasked_attention, Mask, MAX_SCORES,
    MAX_SCORES_ON_CPU,
};
pub use block::{
    gated_linear, project_heads, project_jointly, project_swiglu, HeadProjection, JointProjection,
    Normed, ProjectedHeads,
};
pub use blocks::{Block, Blocks, PagedBlocks};
pub use conv::{upsample_nearest, Conv2d, MAX_UNFOLDED};
pub use copy::{concat, dense};
pub use device::{
    arithmetic_speed, available_memory, check_fp8, check_gpu, copier, device_memory,
    give_back_memory, in_transit, is_memory_limited, is_out_of_memory, keep_freed_memory,
    limit_memory, link_speed, pool_memory, process_memory,
};
pub use embedding::{embed, timestep_embedding};
pub use factors::{Factors, HeadFactors, Operands, Update, WideUp};
pub use footprint::{block_bytes, BlockPath};
pub use fused::{DeviceHeads, Fused, ReadyHeads};
pub use heads::{HeadNorms, Heads, Pairs, QkBounds, RopeTable};
pub use latents::{blend, guided_velocity, patchify, to_pixels};
pub use linear::Linear;
pub use memory::{DeviceMemory, PoolBytes, ProcessBytes};
pub use mlp::{gated_residual, swiglu};
pub use no_gpu::NoGpu;
pub use norm::{
    group_norm, modulated_layer_norm, modulated_layer_norm_fp8, rms_norm, GroupMoments, GroupNorm,
};
pub use operation::{check_cancelled, host_memory, Operation};
pub use paths::{block_path, describe_paths};
pub use placement::{Fp8Refusal, Placement, WeightFormat};
pub use pointwise::{add, cast, mean_magnitude, scaled_sum, silu, subtract};
pub use quantize::quantize_rows;
pub use rope::qk_norm_rope;
pub use scaled_rows::ScaledRows;
pub use stream::{
    Copier, Group, Home, HostBytes, HostCopier, MakeCopier, PageFact, PageId, PageLayout, Pager,
    PagerStats, PinnedBytes, Residence, SlotId, Visits, SLOTS,
};
pub use weight::PackedRows;

#[cfg(test)]
pub use stream::testing::{FailingCopier, SlowCopier};

#[cfg(test)]
pub use tests::{relative_error, test_gpu};
