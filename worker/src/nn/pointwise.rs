//! Sums, magnitudes, activations and changes of type.

use candle_core::{DType, Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;

/// `x + y` of one shape.
///
/// # Errors
/// The shapes differ, or the device fails.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(sum) = cuda::add(x, y)? {
        return Ok(sum);
    }
    x + y
}

/// `x - y` of one shape.
///
/// # Errors
/// The shapes differ, or the device fails.
pub fn subtract(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(difference) = cuda::subtract(x, y)? {
        return Ok(difference);
    }
    x - y
}

/// The sum of tensors of one shape times numbers; there is at least one.
///
/// # Errors
/// The shapes differ, or the device fails.
pub fn scaled_sum(terms: &[(f64, &Tensor)]) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(sum) = cuda::scaled_sum(terms)? {
        return Ok(sum);
    }
    let Some(((factor, first), rest)) = terms.split_first() else {
        candle_core::bail!("a sum of nothing");
    };
    let mut sum = (*first * *factor)?;
    for (factor, tensor) in rest {
        sum = (sum + (*tensor * *factor)?)?;
    }
    Ok(sum)
}

/// `x * sigmoid(x)` (Hendrycks & Gimpel 2016).
///
/// # Errors
/// The device fails.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(y) = cuda::silu(x)? {
        return Ok(y);
    }
    x.silu()
}

/// The mean of `|x - minus|`, or of `|x|`: a float32 scalar.
///
/// # Errors
/// The shapes differ, or the device fails.
pub fn mean_magnitude(x: &Tensor, minus: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(mean) = cuda::mean_magnitude(x, minus)? {
        return Ok(mean);
    }
    let x = x.to_dtype(DType::F32)?;
    let x = match minus {
        Some(minus) => (x - minus.to_dtype(DType::F32)?)?,
        None => x,
    };
    x.abs()?.mean_all()
}

/// `x` as another type.
///
/// # Errors
/// The device fails.
pub fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(y) = cuda::cast(x, dtype)? {
        return Ok(y);
    }
    x.to_dtype(dtype)
}
