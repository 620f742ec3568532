//! The three networks: their blocks and forward passes, and what builds them from named tensors.

mod assemble;
pub mod builder;
mod e4m3;
pub mod mmdit;
pub mod qwen3;
pub mod sites;
pub mod step_cache;
pub mod vae;
