//! Affine maps.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;

/// `x W^T + b`, with the weight kept as `[out, in]`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// From a weight `[out, in]` and a bias `[out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// `[.., in]` to `[.., out]`, in the type of `x`.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(y) = cuda::linear(x, &self.weight, self.bias.as_ref())? {
            return Ok(y);
        }
        // A weight stored narrower than the arithmetic (bf16 on a CPU) is
        // widened for the product and dropped again.
        let weight = self.weight.to_dtype(x.dtype())?;
        let (out_dim, in_dim) = weight.dims2()?;
        let mut shape = x.dims().to_vec();
        let rows = x.elem_count() / in_dim;
        let y = x.reshape((rows, in_dim))?.matmul(&weight.t()?)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(&bias.to_dtype(x.dtype())?)?,
            None => y,
        };
        if let Some(last) = shape.last_mut() {
            *last = out_dim;
        }
        y.reshape(shape)
    }
}
