//! What networks are made of. The only room that asks which device it is on.
//!
//! Every function here is written as the plain tensor expression that defines
//! it; a device with something faster is asked first.

mod attention;
mod conv;
#[cfg(feature = "cuda")]
pub mod cuda;
mod embedding;
mod latents;
mod linear;
mod mlp;
mod norm;
mod placement;
mod pointwise;
mod rope;

pub use attention::{attention, attention_and_swiglu, single_head, Mask};
pub use conv::{upsample_nearest, Conv2d};
pub use embedding::{embed, timestep_embedding};
pub use latents::{guided_velocity, patchify, to_pixels};
pub use linear::Linear;
pub use mlp::{gated_residual, swiglu};
pub use norm::{group_norm, modulated_layer_norm, rms_norm, GroupNorm};
pub use placement::{device_memory, keep_freed_memory, Placement};
pub use pointwise::{add, cast, scaled_sum, silu};
pub use rope::{qk_norm_rope, HeadNorms, Heads, Pairs, RopeTable};
