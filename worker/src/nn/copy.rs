//! Copies that change a tensor's layout, and nothing else.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;

/// `x` itself where it is contiguous, else a contiguous copy.
///
/// # Errors
/// The device fails.
pub fn dense(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    return cuda::dense(x);
    #[cfg(not(feature = "cuda"))]
    x.contiguous()
}

/// The tensors one after the other along a dimension.
///
/// # Errors
/// Their other dimensions differ, there is none, or the device fails.
pub fn concat(parts: &[&Tensor], dim: usize) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(whole) = cuda::concat(parts, dim)? {
        return Ok(whole);
    }
    Tensor::cat(parts, dim)
}
