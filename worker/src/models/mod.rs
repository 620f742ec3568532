//! The three networks: their blocks and forward passes, and what builds them from named tensors.

mod assemble;
mod blocks;
pub mod builder;
mod embedding;
pub mod mmdit;
mod origin;
pub mod qwen3;
pub mod sites;
pub mod step_cache;
pub mod swapped;
pub mod vae;
