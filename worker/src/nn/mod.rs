//! What networks are made of. The only room that asks which device it is on.
//!
//! Every function here is written as the plain tensor expression that defines
//! it; a device with something faster is asked first.

mod attention;
mod block;
mod conv;
mod copy;
#[cfg(feature = "cuda")]
pub mod cuda;
mod embedding;
mod fp8;
mod latents;
mod linear;
mod mlp;
mod norm;
mod operation;
mod paths;
mod placement;
mod pointwise;
mod rope;

pub use attention::{
    attention, attention_and_swiglu, single_head, unmasked_attention, Mask, MAX_SCORES,
    MAX_SCORES_ON_CPU,
};
pub use block::{
    gated_linear, project_heads, project_jointly, project_swiglu, HeadProjection, JointProjection,
    Normed, ProjectedHeads,
};
pub use conv::{upsample_nearest, Conv2d, MAX_UNFOLDED};
pub use copy::{concat, dense};
pub use embedding::{embed, timestep_embedding};
pub use fp8::{quantize_rows, ScaledRows};
pub use latents::{blend, guided_velocity, patchify, to_pixels};
pub use linear::Linear;
pub use mlp::{gated_residual, swiglu};
pub use norm::{
    group_norm, modulated_layer_norm, modulated_layer_norm_fp8, rms_norm, GroupMoments, GroupNorm,
};
pub use operation::{check_cancelled, host_memory, Operation};
pub use paths::describe_paths;
pub use placement::{
    available_memory, check_fp8, device_memory, is_out_of_memory, keep_freed_memory, Placement,
};
pub use pointwise::{add, cast, mean_magnitude, scaled_sum, silu, subtract};
pub use rope::{qk_norm_rope, HeadNorms, Heads, Pairs, QkBounds, RopeTable};

/// `|found - wanted| / |wanted|` of float32 tensors.
#[cfg(test)]
pub fn relative_error(found: &candle_core::Tensor, wanted: &candle_core::Tensor) -> f32 {
    let squares = |t: &candle_core::Tensor| t.sqr()?.sum_all()?.to_scalar::<f32>();
    let error = || Ok::<_, candle_core::Error>(squares(&(found - wanted)?)? / squares(wanted)?);
    error().unwrap().sqrt()
}
