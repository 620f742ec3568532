//! Whether a computation is differentiated.
//!
//! Candle's `softmax_last_dim`, `rms_norm` and `rope`, and our own kernels, have no backward pass.
//! They serve inference; where gradients are tracked, the expression of differentiable operations
//! is evaluated instead.

use candle_core::Tensor;

/// Whether any of the tensors is a variable or was computed from one.
pub(super) fn tracked(tensors: &[&Tensor]) -> bool {
    tensors.iter().any(|tensor| tensor.track_op())
}
