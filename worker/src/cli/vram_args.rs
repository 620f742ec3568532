//! The budget of GPU memory.

use clap::Args;

use super::values::parsed;
use crate::pipeline::{parse_bytes, NotBytes};

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
        value_parser = parsed(vram),
        allow_hyphen_values = true
    )]
    vram: Vram,
}

/// The `--vram` argument: bytes, or `None` for `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Vram(Option<u64>);

/// Parses `--vram`. A blank value, as an environment variable may have, means `auto`.
fn vram(text: &str) -> Result<Vram, NotBytes> {
    match text.trim() {
        "" | "auto" => Ok(Vram(None)),
        text => Ok(Vram(Some(parse_bytes(text)?))),
    }
}

impl VramArgs {
    /// The budget in bytes; `None` is what is free.
    pub fn budget(&self) -> Option<u64> {
        self.vram.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_auto_or_a_size() {
        assert_eq!(vram("auto"), Ok(Vram(None)));
        assert_eq!(vram(" "), Ok(Vram(None)));
        assert_eq!(vram("12GB"), Ok(Vram(Some(12 << 30))));
        assert_eq!(vram("16376MiB"), Ok(Vram(Some(16_376 << 20))));
        assert_eq!(vram("much"), Err(NotBytes));
    }
}
