//! What each fuzz target does with the bytes it is given. The programs under `targets/` call
//! these functions from libFuzzer, and `tests/replay.rs` calls them from plain `cargo test`.
//! A function panics if the code under test breaks a promise.

pub mod assembly;
pub mod messages;
