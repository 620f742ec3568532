//! What each fuzz target does with the bytes it is given. The programs under `targets/` call
//! these functions from libFuzzer, and `tests/replay.rs` calls them from plain `cargo test`.
//! A function panics if the code under test breaks a promise.

pub mod adapters;
pub mod admission;
pub mod assembly;
pub mod configs;
mod demo;
pub mod frames;
pub mod gguf;
pub mod headers;
pub mod journal;
pub mod messages;
pub mod prompts;

/// One target.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Inputs that reach what is fuzzed.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Runs an input and says whether it got all the way through: each seed does.
    pub run: fn(&[u8]) -> bool,
    /// How many mutations of each seed the replay runs.
    pub mutations: usize,
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    Target {
        name: "messages",
        seeds: messages::seeds,
        run: messages::run,
        mutations: 2000,
    },
    Target {
        name: "assembly",
        seeds: assembly::seeds,
        run: assembly::run,
        mutations: 2000,
    },
    Target {
        name: "admission",
        seeds: admission::seeds,
        run: admission::run,
        mutations: 200,
    },
    Target {
        name: "gguf",
        seeds: gguf::seeds,
        run: gguf::run,
        mutations: 2000,
    },
    Target {
        name: "headers",
        seeds: headers::seeds,
        run: headers::run,
        mutations: 200,
    },
    Target {
        name: "adapters",
        seeds: adapters::seeds,
        run: adapters::run,
        mutations: 100,
    },
    Target {
        name: "configs",
        seeds: configs::seeds,
        run: configs::run,
        mutations: 30,
    },
    Target {
        name: "journal",
        seeds: journal::seeds,
        run: journal::run,
        mutations: 1000,
    },
    Target {
        name: "prompts",
        seeds: prompts::seeds,
        run: prompts::run,
        mutations: 200,
    },
];
