//! Normalisations. Statistics are float32 whatever the type of the input.

use candle_core::{DType, Result, Tensor, D};

#[cfg(feature = "cuda")]
use super::cuda;
use super::fp8::{quantize_rows, ScaledRows};

/// `x / rms(x) * weight` over the last dimension (Zhang & Sennrich 2019).
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(y) = cuda::rms_norm(x, weight, eps)? {
        return Ok(y);
    }
    let weight = weight.to_dtype(x.dtype())?;
    candle_nn::ops::rms_norm(&x.contiguous()?, &weight, eps as f32)
}

/// `LayerNorm(x) * (1 + scale) + shift`, with no affine of its own.
/// `x` is `[B, S, H]`, `shift` and `scale` are `[1 or B, H]`.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn modulated_layer_norm(
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(y) = cuda::modulated_layer_norm(x, shift, scale, eps)? {
        return Ok(y);
    }
    let wide = x.to_dtype(DType::F32)?;
    let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    let scale = (scale.to_dtype(DType::F32)? + 1.0)?.unsqueeze(1)?;
    let shift = shift.to_dtype(DType::F32)?.unsqueeze(1)?;
    normed
        .broadcast_mul(&scale)?
        .broadcast_add(&shift)?
        .to_dtype(x.dtype())
}

/// [`quantize_rows`] of [`modulated_layer_norm`].
///
/// # Errors
/// As [`modulated_layer_norm`].
pub fn modulated_layer_norm_fp8(
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
    eps: f64,
) -> Result<ScaledRows> {
    #[cfg(feature = "cuda")]
    if let Some(rows) = cuda::modulated_layer_norm_fp8(x, shift, scale, eps)? {
        return Ok(rows);
    }
    quantize_rows(&modulated_layer_norm(x, shift, scale, eps)?)
}

/// Group normalisation with its affine parameters (Wu & He 2018).
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// From weight and bias `[C]`; `groups` divides C.
    pub fn new(weight: Tensor, bias: Tensor, groups: usize, eps: f64) -> Self {
        Self {
            weight,
            bias,
            groups,
            eps,
        }
    }

    /// `[B, C, H, W]` to the same, optionally through SiLU.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn forward(&self, x: &Tensor, silu: bool) -> Result<Tensor> {
        group_norm(x, &self.weight, &self.bias, self.groups, self.eps, silu)
    }
}

/// Group normalisation of `x` `[B, C, H, W]` with affine `[C]`, optionally
/// followed by SiLU.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    silu: bool,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(y) = cuda::group_norm(x, weight, bias, groups, eps, silu)? {
        return Ok(y);
    }
    let (b, c, h, w) = x.dims4()?;
    let wide = x
        .to_dtype(DType::F32)?
        .reshape((b, groups, c / groups * h * w))?;
    let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred
        .broadcast_div(&(variance + eps)?.sqrt()?)?
        .reshape((b, c, h, w))?;
    let affine = |t: &Tensor| t.to_dtype(DType::F32)?.reshape((1, c, 1, 1));
    let y = normed
        .broadcast_mul(&affine(weight)?)?
        .broadcast_add(&affine(bias)?)?;
    let y = if silu { y.silu()? } else { y };
    y.to_dtype(x.dtype())
}
