//! Sums, means, activations and type conversions.

use candle_core::{DType, Result, Tensor};

use super::backend::fused;
use super::fused::Fused;

/// `x + y` of tensors of one shape.
///
/// # Errors
/// The shapes differ.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if let Some(sum) = fused().add(x, y)? {
        return Ok(sum);
    }
    x + y
}

/// `x - y` of tensors of one shape.
///
/// # Errors
/// The shapes differ.
pub fn subtract(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if let Some(difference) = fused().subtract(x, y)? {
        return Ok(difference);
    }
    x - y
}

/// A linear combination of tensors of one shape.
///
/// # Errors
/// There are no terms, or the shapes differ.
pub fn scaled_sum(terms: &[(f64, &Tensor)]) -> Result<Tensor> {
    if let Some(sum) = fused().scaled_sum(terms)? {
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
/// The result cannot be allocated.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    if let Some(y) = fused().silu(x)? {
        return Ok(y);
    }
    x.silu()
}

/// The mean of `|x - minus|`, or of `|x|` without `minus`: a float32 scalar on the device.
///
/// # Errors
/// The shapes differ.
pub fn mean_magnitude(x: &Tensor, minus: Option<&Tensor>) -> Result<Tensor> {
    if let Some(mean) = fused().mean_magnitude(x, minus)? {
        return Ok(mean);
    }
    let x = x.to_dtype(DType::F32)?;
    let x = match minus {
        Some(minus) => (x - minus.to_dtype(DType::F32)?)?,
        None => x,
    };
    x.abs()?.mean_all()
}

/// Converts `x` to another type.
///
/// # Errors
/// The result cannot be allocated.
pub fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if let Some(y) = fused().cast(x, dtype)? {
        return Ok(y);
    }
    x.to_dtype(dtype)
}
