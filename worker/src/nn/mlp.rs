//! The elementwise operations of a transformer block.

use candle_core::{Result, Tensor, D};

use super::backend::fused;
use super::fused::Fused;

/// `up * silu(gate)` of a projection `[.., 2 I]` that holds the up half first
/// (Shazeer 2020; the checkpoints define the order).
///
/// # Errors
/// `up_gate` is a scalar.
pub fn swiglu(up_gate: &Tensor) -> Result<Tensor> {
    if let Some(y) = fused().swiglu(up_gate)? {
        return Ok(y);
    }
    let inner = up_gate.dim(D::Minus1)? / 2;
    let up = up_gate.narrow(D::Minus1, 0, inner)?;
    let gate = up_gate.narrow(D::Minus1, inner, inner)?;
    up * gate.contiguous()?.silu()?
}

/// `x + gate * y` for `x`, `y` `[B, S, H]` and `gate` `[1 or B, H]`.
///
/// # Errors
/// The shapes do not fit.
pub fn gated_residual(x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Tensor> {
    if let Some(sum) = fused().gated_residual(x, gate, y)? {
        return Ok(sum);
    }
    x + y.broadcast_mul(&gate.unsqueeze(1)?)?
}
