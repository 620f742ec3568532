//! Adaptive-norm modulations: what the timestep contributes to every block.

use candle_core::{Result, Tensor};

use super::head_norms::EPS;
use crate::nn::{Linear, Normed};

/// Shift, scale and gate of one modulated sublayer, each `[1, H]`.
pub(super) struct Modulation {
    pub shift: Tensor,
    pub scale: Tensor,
    pub gate: Tensor,
}

impl Modulation {
    /// The modulated norm of `x`, followed by a layer.
    pub fn before<'a>(&'a self, linear: &'a Linear, x: &'a Tensor) -> Normed<'a> {
        Normed {
            x,
            shift: &self.shift,
            scale: &self.scale,
            eps: EPS,
            linear,
        }
    }
}

/// Splits a block's row `[1, 3 N H]` of one step into its `N` modulations.
pub(super) fn split<const N: usize>(row: &Tensor) -> Result<[Modulation; N]> {
    let parts = row.chunk(3 * N, 1)?;
    Ok(std::array::from_fn(|i| Modulation {
        shift: parts[3 * i].clone(),
        scale: parts[3 * i + 1].clone(),
        gate: parts[3 * i + 2].clone(),
    }))
}

/// Adaptive-norm modulations of all blocks, one row per step.
pub struct Modulations {
    /// Per double-stream block, rows `[steps, 6 H]` for the image and the text stream.
    pub(super) double: Vec<[Tensor; 2]>,
    /// Per single-stream block, rows `[steps, 3 H]`.
    pub(super) single: Vec<Tensor>,
    /// Shift and scale of the last norm, `[steps, 2 H]`.
    pub(super) last: Tensor,
}
