//! Scaled dot-product attention (Vaswani et al. 2017).

use candle_core::{DType, Device, Result, Tensor, D};

use super::copy::concat;
#[cfg(feature = "cuda")]
use super::cuda;
use super::mlp::swiglu;
use super::operation::check_cancelled;
use super::rope::QkBounds;

/// Most score elements held at a time; longer query sequences go in pieces.
pub const MAX_SCORES: usize = 1 << 28;

/// The same on a CPU, where it also bounds how long a piece takes, and with it a cancel.
pub const MAX_SCORES_ON_CPU: usize = 1 << 26;

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    None,
    /// Those at its own position and before.
    Causal,
}

/// Attention of `q` `[B, S, H, D]` over `k` and `v` `[B, S, G, D]`, where G
/// divides H and each key head serves H / G query heads. The result is
/// `[B, S, H D]`.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(out) = cuda::attention(q, k, v, mask == Mask::Causal)? {
        return Ok(out);
    }
    let (b, s, heads, head_dim) = q.dims4()?;
    let groups = heads / k.dim(2)?;
    let q = (q.transpose(1, 2)?.contiguous()? * (head_dim as f64).powf(-0.5))?;
    let k = shared_heads(k, groups)?.contiguous()?.transpose(2, 3)?;
    let v = shared_heads(v, groups)?.contiguous()?;
    let most = match q.device().is_cpu() {
        true => MAX_SCORES_ON_CPU,
        false => MAX_SCORES,
    };
    let rows = (most / (b * heads * s)).clamp(1, s);
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < s {
        check_cancelled()?;
        let length = rows.min(s - start);
        // Each of these is as large as the scores and goes as soon as the next is made.
        let mut scores = q.narrow(2, start, length)?.contiguous()?.matmul(&k)?;
        if mask == Mask::Causal {
            scores = scores.broadcast_add(&causal_bias(start, length, s, &scores)?)?;
        }
        scores = scores.to_dtype(DType::F32)?;
        scores = candle_nn::ops::softmax_last_dim(&scores)?;
        pieces.push(scores.to_dtype(v.dtype())?.matmul(&v)?);
        start += length;
    }
    let out = match pieces.len() {
        1 => pieces.swap_remove(0),
        _ => Tensor::cat(&pieces, 2)?,
    };
    out.transpose(1, 2)?.reshape((b, s, heads * head_dim))
}

/// `[B, S, G, D]` to `[B, G * groups, S, D]`.
fn shared_heads(x: &Tensor, groups: usize) -> Result<Tensor> {
    let (b, s, heads, head_dim) = x.dims4()?;
    let x = x.transpose(1, 2)?;
    if groups == 1 {
        return Ok(x);
    }
    x.unsqueeze(2)?
        .expand((b, heads, groups, s, head_dim))?
        .reshape((b, heads * groups, s, head_dim))
}

/// Minus infinity where a key lies after the query, `[rows, S]`.
fn causal_bias(start: usize, rows: usize, s: usize, like: &Tensor) -> Result<Tensor> {
    let values: Vec<f32> = (start..start + rows)
        .flat_map(|i| (0..s).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Tensor::from_vec(values, (rows, s), &Device::Cpu)?
        .to_dtype(like.dtype())?
        .to_device(like.device())
}

/// [`attention`] without a mask and [`swiglu`] of `up_gate` `[B, S, 2 I]`, side by
/// side: `[B, S, H D + I]`, what a single-stream block projects back.
///
/// # Errors
/// As [`attention`].
pub fn attention_and_swiglu(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    up_gate: &Tensor,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(out) = cuda::attention_and_swiglu(q, k, v, up_gate)? {
        return Ok(out);
    }
    concat(&[&attention(q, k, v, Mask::None)?, &swiglu(up_gate)?], 2)
}

/// [`attention`] without a mask, whose products may be done in 8-bit floats (E4M3) if there are
/// `bounds`: where a device has that, q and k share a scale each that these fit, v one that its
/// largest magnitude does, and the weights and the result are rounded to E4M3 too. Elsewhere it
/// is exact.
///
/// # Errors
/// As [`attention`].
pub fn unmasked_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bounds: Option<QkBounds>,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(bounds) = bounds {
        if let Some(out) = cuda::attention_fp8(q, k, v, bounds)? {
            return Ok(out);
        }
    }
    let _ = bounds;
    attention(q, k, v, Mask::None)
}

/// Single-head attention of `[B, S, C]` tensors, without a mask.
///
/// # Errors
/// As [`attention`].
pub fn single_head(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(out) = cuda::single_head(q, k, v, MAX_SCORES)? {
        return Ok(out);
    }
    let as_head = |x: &Tensor| x.unsqueeze(D::Minus2);
    attention(&as_head(q)?, &as_head(k)?, &as_head(v)?, Mask::None)
}
