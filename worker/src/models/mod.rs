//! The three networks: blocks and forward passes, and how their tensors are loaded.

mod assemble;
pub mod builder;
mod e4m3;
pub mod mmdit;
pub mod qwen3;
pub mod step_cache;
pub mod vae;
