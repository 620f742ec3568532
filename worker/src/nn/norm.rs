//! Normalisations. Statistics are float32 for every input type.

use candle_core::{DType, Result, Tensor, D};

use super::adapter::current;
use super::backend::fused;
use super::fused::Fused;
use super::gradients::tracked;
use super::quantize::quantize_rows;
use super::scaled_rows::ScaledRows;

/// `x / rms(x) * weight` over the last dimension (Zhang & Sennrich 2019). The weight is the one
/// that the current [`AdapterSet`](super::AdapterSet) has in its place, if any.
///
/// # Errors
/// The shapes do not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let weight = &current(weight);
    if let Some(y) = fused().rms_norm(x, weight, eps)? {
        return Ok(y);
    }
    if !tracked(&[x, weight]) {
        let weight = weight.to_dtype(x.dtype())?;
        return candle_nn::ops::rms_norm(&x.contiguous()?, &weight, eps as f32);
    }
    let wide = x.to_dtype(DType::F32)?;
    let mean_square = wide.sqr()?.mean_keepdim(D::Minus1)?;
    wide.broadcast_div(&(mean_square + eps)?.sqrt()?)?
        .broadcast_mul(&weight.to_dtype(DType::F32)?)?
        .to_dtype(x.dtype())
}

/// `LayerNorm(x) * (1 + scale) + shift`, where the LayerNorm has no weight and bias of its own
/// (adaptive layer norm, Peebles & Xie 2023). `x` is `[B, S, H]`, `shift` and `scale` are
/// `[1 or B, H]`.
///
/// # Errors
/// The shapes do not fit.
pub fn modulated_layer_norm(
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    if let Some(y) = fused().modulated_layer_norm(x, shift, scale, eps)? {
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
/// The shapes do not fit.
pub fn modulated_layer_norm_fp8(
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
    eps: f64,
) -> Result<ScaledRows> {
    if let Some(rows) = fused().modulated_layer_norm_fp8(x, shift, scale, eps)? {
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
    /// A norm with weight and bias `[C]`; `groups` divides C.
    pub fn new(weight: Tensor, bias: Tensor, groups: usize, eps: f64) -> Self {
        Self {
            weight,
            bias,
            groups,
            eps,
        }
    }

    /// Normalises `x` `[B, C, H, W]`, then applies SiLU if asked to.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn forward(&self, x: &Tensor, silu: bool) -> Result<Tensor> {
        group_norm(x, &self.weight, &self.bias, self.groups, self.eps, silu)
    }

    /// The moments that [`forward`](Self::forward) normalises `x` `[B, C, H, W]` with.
    /// Synchronises with the device.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn moments(&self, x: &Tensor) -> Result<GroupMoments> {
        let (_, c, h, w) = x.dims4()?;
        let count = (c / self.groups * h * w) as f64;
        if let Some(moments) = fused().group_moments(x, self.groups, self.eps)? {
            let pairs = moments.flatten_all()?.to_vec1::<f32>()?;
            let pairs = pairs.chunks_exact(2).map(|pair| {
                let variance = f64::from(pair[1]).powi(-2) - self.eps;
                (f64::from(pair[0]), variance.max(0.0))
            });
            return Ok(GroupMoments {
                count,
                groups: pairs.collect(),
            });
        }
        let (_, means, variances) = centred_groups(x, self.groups)?;
        let values = |t: Tensor| t.flatten_all()?.to_vec1::<f32>();
        let pairs = values(means)?.into_iter().zip(values(variances)?);
        Ok(GroupMoments {
            count,
            groups: pairs.map(|(m, v)| (m.into(), v.into())).collect(),
        })
    }

    /// [`forward`](Self::forward) with given moments instead of those of `x`.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn forward_by(&self, x: &Tensor, moments: &GroupMoments, silu: bool) -> Result<Tensor> {
        let entries = x.dim(0)?;
        let pairs = moments.groups.iter().flat_map(|(mean, variance)| {
            let inverse = (variance + self.eps).sqrt().recip();
            [*mean as f32, inverse as f32]
        });
        let pairs = Tensor::from_vec(pairs.collect(), (entries, self.groups, 2), x.device())?;
        if let Some(y) = fused().group_norm_by(x, &pairs, [&self.weight, &self.bias], silu)? {
            return Ok(y);
        }
        let normed = groups_of(x, self.groups)?
            .broadcast_sub(&pairs.narrow(2, 0, 1)?)?
            .broadcast_mul(&pairs.narrow(2, 1, 1)?)?;
        affine(&normed, x, &self.weight, &self.bias, silu)
    }
}

/// Mean and variance of each group of an image or of a part of it.
#[derive(Clone, Debug)]
pub struct GroupMoments {
    /// Number of elements per group.
    count: f64,
    /// Mean and variance of each group of each batch entry.
    groups: Vec<(f64, f64)>,
}

impl GroupMoments {
    /// The moments of the union of two parts (Chan et al. 1979).
    pub fn with(&self, other: &Self) -> Self {
        let count = self.count + other.count;
        let share = other.count / count;
        let groups = self.groups.iter().zip(&other.groups);
        Self {
            count,
            groups: groups
                .map(|(&(mean, variance), &(other_mean, other_variance))| {
                    let difference = other_mean - mean;
                    let within = variance * (1.0 - share) + other_variance * share;
                    let between = difference * difference * share * (1.0 - share);
                    (mean + difference * share, within + between)
                })
                .collect(),
        }
    }
}

/// Group normalisation of `x` `[B, C, H, W]` with affine `[C]`, optionally
/// followed by SiLU.
///
/// # Errors
/// The shapes do not fit.
pub fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    silu: bool,
) -> Result<Tensor> {
    if let Some(y) = fused().group_norm(x, [weight, bias], groups, eps, silu)? {
        return Ok(y);
    }
    let (centred, _, variance) = centred_groups(x, groups)?;
    let normed = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    affine(&normed, x, weight, bias, silu)
}

/// `x` `[B, C, H, W]` by groups, float32 `[B, G, C/G H W]`.
fn groups_of(x: &Tensor, groups: usize) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    x.to_dtype(DType::F32)?
        .reshape((b, groups, c / groups * h * w))
}

/// [`groups_of`] minus their means, then the means and the variances `[B, G, 1]`.
fn centred_groups(x: &Tensor, groups: usize) -> Result<(Tensor, Tensor, Tensor)> {
    let wide = groups_of(x, groups)?;
    let means = wide.mean_keepdim(D::Minus1)?;
    let centred = wide.broadcast_sub(&means)?;
    let variances = centred.sqr()?.mean_keepdim(D::Minus1)?;
    Ok((centred, means, variances))
}

/// Applies `weight` and `bias` `[C]`, then SiLU if asked to, to the normalised `x` `[B, C, H, W]`.
fn affine(
    normed: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    silu: bool,
) -> Result<Tensor> {
    let channels = x.dim(1)?;
    let factor = |t: &Tensor| t.to_dtype(DType::F32)?.reshape((1, channels, 1, 1));
    let y = normed
        .reshape(x.dims())?
        .broadcast_mul(&factor(weight)?)?
        .broadcast_add(&factor(bias)?)?;
    let y = if silu { y.silu()? } else { y };
    y.to_dtype(x.dtype())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::relative_error;
    use super::*;

    #[test]
    fn moments_of_parts_merge_to_those_of_the_whole() {
        let random = |shape: &[usize]| Tensor::randn(3f32, 2f32, shape, &Device::Cpu).unwrap();
        let norm = GroupNorm::new(random(&[6]), random(&[6]), 3, 1e-6);
        let x = random(&[2, 6, 5, 4]);
        let part = |start, rows| norm.moments(&x.narrow(2, start, rows).unwrap()).unwrap();
        let merged = part(0, 2).with(&part(2, 3));
        for silu in [false, true] {
            let found = norm.forward_by(&x, &merged, silu).unwrap();
            let error = relative_error(&found, &norm.forward(&x, silu).unwrap());
            assert!(error < 1e-6, "{error:e}");
        }
    }
}
