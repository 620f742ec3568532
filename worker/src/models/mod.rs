//! The three networks: config, blocks, forward, nothing else.

pub mod builder;
pub mod mmdit;
pub mod qwen3;
pub mod random;
pub mod step_cache;
pub mod vae;
