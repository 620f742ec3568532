//! Rotary position embeddings (Su et al. 2021).

use candle_core::{DType, Device, Result, Tensor};

use super::norm::rms_norm;

/// Cosines and sines of every position's angles, `[S, D/2]` float32.
#[derive(Clone, Debug)]
pub struct RopeTable {
    cos: Tensor,
    sin: Tensor,
}

impl RopeTable {
    /// Angles over several axes: `positions[s][a]` turns the pairs of axis `a`,
    /// which has `axes_dim[a]` dimensions of the head, at frequencies
    /// `theta^(-2i / axes_dim[a])`. Angles are computed in float64, as diffusers
    /// does on a CPU.
    ///
    /// # Errors
    /// The device fails.
    pub fn new<const A: usize>(
        positions: &[[f64; A]],
        axes_dim: &[usize; A],
        theta: f64,
        device: &Device,
    ) -> Result<Self> {
        let frequencies: Vec<(usize, f64)> = axes_dim
            .iter()
            .enumerate()
            .flat_map(|(axis, &dim)| {
                (0..dim / 2).map(move |i| (axis, theta.powf(-2.0 * i as f64 / dim as f64)))
            })
            .collect();
        let angles: Vec<f64> = positions
            .iter()
            .flat_map(|position| frequencies.iter().map(|&(axis, f)| position[axis] * f))
            .collect();
        let shape = (positions.len(), frequencies.len());
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|&a| f(a) as f32).collect();
            Tensor::from_vec(values, shape, device)
        };
        Ok(Self {
            cos: table(f64::cos)?,
            sin: table(f64::sin)?,
        })
    }

    /// The positions `start .. start + length`.
    ///
    /// # Errors
    /// The table has fewer positions.
    pub fn narrow(&self, start: usize, length: usize) -> Result<Self> {
        Ok(Self {
            cos: self.cos.narrow(0, start, length)?.contiguous()?,
            sin: self.sin.narrow(0, start, length)?.contiguous()?,
        })
    }
}

/// Splits a packed projection `[B, S, 3 H D]` (or the first columns of a wider
/// one) into q, k and v `[B, S, H, D]`, with RMSNorm over each head of q and k
/// and then rotation of neighbouring pairs, as FLUX.1 has it.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn qk_norm_rope(
    qkv: &Tensor,
    heads: usize,
    query_norm: &Tensor,
    key_norm: &Tensor,
    rope: &RopeTable,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (b, s, _) = qkv.dims3()?;
    let head_dim = query_norm.dim(0)?;
    let width = heads * head_dim;
    let part = |i: usize| {
        qkv.narrow(2, i * width, width)?
            .reshape((b, s, heads, head_dim))
    };
    let turned = |x: Tensor, weight: &Tensor| -> Result<Tensor> {
        let x = rms_norm(&x, weight, eps)?.transpose(1, 2)?.contiguous()?;
        let wide = x.to_dtype(DType::F32)?;
        candle_nn::rotary_emb::rope_i(&wide, &rope.cos, &rope.sin)?
            .to_dtype(qkv.dtype())?
            .transpose(1, 2)
    };
    Ok((
        turned(part(0)?, query_norm)?,
        turned(part(1)?, key_norm)?,
        part(2)?,
    ))
}

/// Rotates `x` `[B, S, H, D]` with the first half of each head paired with the
/// second, as Qwen3 has it.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn rotate_half(x: &Tensor, rope: &RopeTable) -> Result<Tensor> {
    let wide = x.transpose(1, 2)?.contiguous()?.to_dtype(DType::F32)?;
    candle_nn::rotary_emb::rope(&wide, &rope.cos, &rope.sin)?
        .to_dtype(x.dtype())?
        .transpose(1, 2)
}
