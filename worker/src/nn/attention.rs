//! Scaled dot-product attention (Vaswani et al. 2017).

use candle_core::{DType, Device, Result, Tensor, D};

use super::backend::fused;
use super::copy::concat;
use super::fused::Fused;
use super::gradients::tracked;
use super::heads::QkBounds;
use super::mlp::swiglu;
use super::operation::check_cancelled;

/// Largest number of scores held at a time; longer query sequences are processed in pieces.
pub const MAX_SCORES: usize = 1 << 28;

/// The same limit on a CPU, where it also bounds the time between two checks for a cancel.
pub const MAX_SCORES_ON_CPU: usize = 1 << 26;

/// Which keys a query attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All keys.
    None,
    /// Keys at its own and earlier positions.
    Causal,
}

/// Attention of `q` `[B, S, H, D]` over `k` and `v` `[B, S, G, D]`, where G divides H and each key
/// head serves H / G query heads: `[B, S, H D]`.
///
/// # Errors
/// The shapes do not fit, or the operation was cancelled.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask) -> Result<Tensor> {
    if let Some(out) = fused().attention([q, k, v], mask == Mask::Causal)? {
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
        // Each intermediate is as large as the scores; assigning drops it early.
        let mut scores = q.narrow(2, start, length)?.contiguous()?.matmul(&k)?;
        if mask == Mask::Causal {
            scores = scores.broadcast_add(&causal_bias(start, length, s, &scores)?)?;
        }
        scores = scores.to_dtype(DType::F32)?;
        scores = softmax(&scores)?;
        pieces.push(scores.to_dtype(v.dtype())?.matmul(&v)?);
        start += length;
    }
    let out = match pieces.len() {
        1 => pieces.swap_remove(0),
        _ => Tensor::cat(&pieces, 2)?,
    };
    out.transpose(1, 2)?.reshape((b, s, heads * head_dim))
}

/// Softmax over the last dimension.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    if !tracked(&[scores]) {
        return candle_nn::ops::softmax_last_dim(scores);
    }
    // The result does not depend on what is subtracted, so the maximum needs no gradient.
    let most = scores.max_keepdim(D::Minus1)?.detach();
    let powers = scores.broadcast_sub(&most)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
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

/// `[rows, S]`: minus infinity where a key comes after the query, else zero.
fn causal_bias(start: usize, rows: usize, s: usize, like: &Tensor) -> Result<Tensor> {
    let values: Vec<f32> = (start..start + rows)
        .flat_map(|i| (0..s).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Tensor::from_vec(values, (rows, s), &Device::Cpu)?
        .to_dtype(like.dtype())?
        .to_device(like.device())
}

/// Unmasked [`attention`] and [`swiglu`] of `up_gate` `[B, S, 2 I]`, concatenated to the input
/// `[B, S, H D + I]` of a single-stream block's output projection.
///
/// # Errors
/// The shapes do not fit, or the operation was cancelled.
pub fn attention_and_swiglu(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    up_gate: &Tensor,
) -> Result<Tensor> {
    if let Some(out) = fused().attention_and_swiglu([q, k, v], up_gate)? {
        return Ok(out);
    }
    concat(&[&attention(q, k, v, Mask::None)?, &swiglu(up_gate)?], 2)
}

/// Unmasked [`attention`], in 8-bit floats (E4M3) if there are `bounds` and the device supports it.
/// Then q and k have one scale each, chosen by the bounds, v has one chosen by its largest
/// magnitude, and the softmax weights and the result are rounded to E4M3 as well. Other devices
/// ignore the bounds.
///
/// # Errors
/// The shapes do not fit, or the operation was cancelled.
pub fn unmasked_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bounds: Option<QkBounds>,
) -> Result<Tensor> {
    if let Some(bounds) = bounds {
        if let Some(out) = fused().attention_fp8([q, k, v], bounds)? {
            return Ok(out);
        }
    }
    attention(q, k, v, Mask::None)
}

/// Unmasked attention of a single head, for tensors `[B, S, C]`.
///
/// # Errors
/// The shapes do not fit, or the operation was cancelled.
pub fn single_head(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    if let Some(out) = fused().single_head([q, k, v], MAX_SCORES)? {
        return Ok(out);
    }
    let as_head = |x: &Tensor| x.unsqueeze(D::Minus2);
    attention(&as_head(q)?, &as_head(k)?, &as_head(v)?, Mask::None)
}

#[cfg(test)]
mod tests {
    use super::super::relative_error;
    use super::*;

    /// Attention of one query head by its definition, in float64.
    fn defined(q: &[Vec<f64>], k: &[Vec<f64>], v: &[Vec<f64>], mask: Mask) -> Vec<Vec<f64>> {
        let scale = (q[0].len() as f64).powf(-0.5);
        let row = |(i, q): (usize, &Vec<f64>)| {
            let seen = match mask {
                Mask::None => k.len(),
                Mask::Causal => i + 1,
            };
            let dot = |k: &Vec<f64>| q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * scale;
            let weights: Vec<f64> = k[..seen].iter().map(|k| dot(k).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mean = |c: usize| weights.iter().zip(v).map(|(w, v)| w * v[c]).sum::<f64>() / total;
            (0..v[0].len()).map(mean).collect()
        };
        q.iter().enumerate().map(row).collect()
    }

    #[test]
    fn key_heads_are_shared_and_masks_hide_later_keys() {
        let (tokens, heads, key_heads, head_dim) = (5, 4, 2, 8);
        let random = |heads: usize| {
            Tensor::randn(0f32, 1f32, (1, tokens, heads, head_dim), &Device::Cpu).unwrap()
        };
        let (q, k, v) = (random(heads), random(key_heads), random(key_heads));
        let head = |x: &Tensor, head: usize| -> Vec<Vec<f64>> {
            let x = x.get(0).unwrap().narrow(1, head, 1).unwrap();
            let x = x.squeeze(1).unwrap().to_dtype(DType::F64).unwrap();
            x.to_vec2().unwrap()
        };
        for mask in [Mask::None, Mask::Causal] {
            let found = attention(&q, &k, &v, mask).unwrap();
            assert_eq!(found.dims(), [1, tokens, heads * head_dim]);
            for i in 0..heads {
                let shared = i / (heads / key_heads);
                let wanted = defined(&head(&q, i), &head(&k, shared), &head(&v, shared), mask);
                let wanted = Tensor::new(wanted, &Device::Cpu).unwrap();
                let wanted = wanted.to_dtype(DType::F32).unwrap();
                let found = found.narrow(2, i * head_dim, head_dim).unwrap();
                let error = relative_error(&found.squeeze(0).unwrap(), &wanted);
                assert!(error < 1e-6, "head {i}, {mask:?}: {error:e}");
            }
        }
    }
}
