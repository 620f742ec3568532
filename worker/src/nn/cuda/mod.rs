//! What NVIDIA GPUs compute faster than the plain expressions: kernels of our own
//! (`worker/kernels/*.cu`), cuDNN's attention and convolutions, and cuBLASLt's products with bias,
//! in bf16 and in fp8.
//!
//! [`Cuda`] implements [`Fused`](super::Fused) with the functions of this folder. Each returns
//! `Ok(None)` if the tensors are on another device or have a type or shape that it does not
//! support; the caller then evaluates the plain expression, which also defines the function and
//! is its test's reference.
//!
//! Two rules make the unsafe code sound. All work of a thread goes to one stream, the one that
//! candle uses there, so a tensor that is dropped after a launch outlives it; only [`copier`] has
//! another, for copies into memory that it keeps until they are done. And what is kept
//! between calls (modules, handles, plans) belongs to the thread, so nothing is shared and nothing
//! needs a lock.

mod address;
mod attention;
mod attention_fp8;
mod block;
mod blocks;
mod channels_last;
mod conv;
mod copier;
mod copy;
mod copy_stream;
mod cudnn;
mod device;
mod fp8;
mod fp8_heads;
mod fp8_linear;
mod functions;
mod hopper;
mod latents;
mod launch;
mod layout;
mod libraries;
mod linear;
mod memory;
mod mlp;
mod modules;
mod norm;
mod nvml;
mod open;
mod paths;
mod pinned;
mod plans;
mod pointwise;
mod pool;
mod products;
mod rope;
mod rows;
mod rows_of;
mod seam;
mod staging;
#[cfg(test)]
mod tests;

pub use seam::Cuda;
