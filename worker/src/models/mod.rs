//! The three networks: config, blocks, forward, nothing else.

mod assemble;
pub mod builder;
mod e4m3;
pub mod mmdit;
pub mod qwen3;
pub mod step_cache;
pub mod vae;
