//! What NVIDIA GPUs do faster than the plain expressions beside them: kernels
//! of our own (`worker/kernels/*.cu`), cuDNN's attention and cuBLASLt's products
//! with bias, both in bf16 and in fp8, and cuDNN's convolution.
//!
//! Every function answers `Ok(None)` when the tensors are on another device or
//! are of a type or shape it does not take; the caller then evaluates the plain
//! expression, which also is the function's definition and its test's oracle.
//!
//! Two rules carry the unsafe code. Work of a thread goes to one stream, the
//! one candle uses there, so a tensor dropped after a launch outlives it. And
//! what is kept between calls (modules, handles, plans) belongs to the thread
//! ([`runtime`]), so nothing is shared that would need a lock.

mod attention;
mod attention_fp8;
mod block;
mod channels_last;
mod conv;
mod copy;
mod cudnn;
mod fp8;
mod fp8_heads;
mod fp8_linear;
mod hopper;
mod latents;
mod linear;
mod mlp;
mod norm;
mod paths;
mod pointwise;
mod products;
mod rope;
mod rows;
mod runtime;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;

/// Most plans that each library's part keeps. An image of one size takes about sixty; a plan
/// is up to some hundreds of kilobytes of host memory.
const MAX_PLANS: NonZeroUsize = NonZeroUsize::new(512).unwrap();

pub use attention::{attention, attention_and_swiglu, attention_into};
pub use attention_fp8::{attention_fp8, attention_fp8_into, Fp8Heads};
pub use block::{gated_linear, project_swiglu, HeadFactors};
pub(super) use block::{project_heads, project_jointly};
pub use channels_last::{group_moments, group_norm_by, laid_out};
pub use conv::conv2d;
pub use copy::{concat, dense};
pub use fp8::{modulated_layer_norm_fp8, quantize_rows};
pub use fp8_linear::fp8_linear;
pub use hopper::Factors;
pub use latents::{blend, guided_velocity, patchify, to_pixels, upsample_nearest};
pub use linear::linear;
pub use mlp::{gated_residual, swiglu};
pub use norm::{group_norm, modulated_layer_norm, rms_norm};
pub use paths::describe_paths;
pub use pointwise::{add, cast, scaled_sum, silu, subtract};
pub use rope::qk_norm_rope;
pub use rows::{embed, mean_magnitude, single_head};
