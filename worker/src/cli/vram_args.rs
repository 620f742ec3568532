//! The budget of GPU memory.

use clap::Args;

use super::values::{auto_or_bytes, parsed, AutoOrBytes};

/// How much of the GPU's memory the worker may take.
#[derive(Clone, Debug, Args)]
pub struct VramArgs {
    /// Most GPU memory that the process may take, as nvidia-smi counts it, such as 12GiB. Weights
    /// that have no room stay in host memory and stream; what cannot be done is refused with the
    /// numbers before the model is loaded. `auto` is what is free. `inspect --plan` tells what a
    /// budget means for a model.
    #[arg(
        long,
        value_name = "auto|SIZE",
        env = "OVIS_WORKER_VRAM",
        default_value = "auto",
        value_parser = parsed(auto_or_bytes),
        allow_hyphen_values = true
    )]
    vram: AutoOrBytes,
}

impl VramArgs {
    /// The budget in bytes; `None` is what is free.
    pub fn budget(&self) -> Option<u64> {
        self.vram.0
    }
}
