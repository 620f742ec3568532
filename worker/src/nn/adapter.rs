//! Low-rank updates of a linear layer.

use candle_core::{Result, Tensor};

use super::product::multiply;

/// A low-rank update of a weight (Hu et al. 2021): the layer's result grows by
/// `scale * (x A^T) B^T`.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// A, `[rank, in]`.
    pub down: Tensor,
    /// B, `[out, rank]`.
    pub up: Tensor,
    /// Factor of the update.
    pub scale: f64,
}

impl Adapter {
    /// The update `[.., out]` for `x` `[.., in]`, in the type of `x`.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    pub fn update(&self, x: &Tensor) -> Result<Tensor> {
        let inner = multiply(x, &self.down.to_dtype(x.dtype())?, None)?;
        multiply(&inner, &self.up.to_dtype(x.dtype())?, None)? * self.scale
    }
}
