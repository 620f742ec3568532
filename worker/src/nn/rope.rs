//! Normalisation and rotary position embedding of queries and keys.

use candle_core::{DType, Result, Tensor};

use super::adapter::current_norms;
use super::backend::fused;
use super::fused::Fused;
use super::gradients::tracked;
use super::heads::{HeadNorms, Heads, Pairs, RopeTable};
use super::norm::rms_norm;

/// Splits packed projections `[B, S, (H + 2 G) D]`, or the first columns of wider ones, into
/// q `[B, sum of S, H, D]` and k and v `[B, sum of S, G, D]`. The tokens of the projections are
/// concatenated. Each head of q and k is normalised by RMSNorm, then rotated (Su et al. 2021);
/// `rope` covers the tokens of all projections. The norms are those that the current
/// [`AdapterSet`](super::AdapterSet) has in their place, if any.
///
/// # Errors
/// The shapes do not fit.
pub fn qk_norm_rope(
    projections: &[(&Tensor, &HeadNorms)],
    heads: Heads,
    pairs: Pairs,
    rope: &RopeTable,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let projections: Vec<_> = projections
        .iter()
        .map(|(qkv, norms)| (*qkv, current_norms(norms, None).0))
        .collect();
    let projections: Vec<_> = projections
        .iter()
        .map(|(qkv, norms)| (*qkv, norms))
        .collect();
    if let Some([q, k, v]) = fused().qk_norm_rope(&projections, heads, pairs, rope, eps)? {
        return Ok((q, k, v));
    }
    let mut parts: [Vec<Tensor>; 3] = Default::default();
    let mut offset = 0;
    for (qkv, norms) in projections {
        let (b, s, _) = qkv.dims3()?;
        let head_dim = norms.query.dim(0)?;
        let rope = rope.narrow(offset, s)?;
        let part = |start: usize, heads: usize| {
            qkv.narrow(2, start * head_dim, heads * head_dim)?
                .reshape((b, s, heads, head_dim))
        };
        let rotated = |x: Tensor, weight: &Tensor| -> Result<Tensor> {
            let x = rms_norm(&x, weight, eps)?.transpose(1, 2)?.contiguous()?;
            let wide = x.to_dtype(DType::F32)?;
            let rotate = match (pairs, tracked(&[&wide])) {
                (Pairs::Neighbours, false) => candle_nn::rotary_emb::rope_i,
                (Pairs::Neighbours, true) => candle_nn::rotary_emb::rope_i_slow,
                (Pairs::Halves, false) => candle_nn::rotary_emb::rope,
                (Pairs::Halves, true) => candle_nn::rotary_emb::rope_slow,
            };
            rotate(&wide, &rope.cos, &rope.sin)?
                .to_dtype(qkv.dtype())?
                .transpose(1, 2)
        };
        parts[0].push(rotated(part(0, heads.query)?, &norms.query)?);
        parts[1].push(rotated(part(heads.query, heads.key)?, &norms.key)?);
        parts[2].push(part(heads.query + heads.key, heads.key)?);
        offset += s;
    }
    let [q, k, v] = parts.map(|part| Tensor::cat(&part, 1));
    Ok((q?, k?, v?))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::nn::QkBounds;

    /// One-hot heads, whose norm yields the largest possible element, and random ones.
    #[test]
    fn bounds_hold_and_are_reached() {
        let (tokens, head_dim) = (64, 16);
        let random = |shape: &[usize]| Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap();
        let norms = || HeadNorms {
            query: random(&[head_dim]),
            key: (random(&[head_dim]) * 3.0).unwrap(),
        };
        let (first, second) = (norms(), norms());
        let single = Tensor::eye(head_dim, DType::F32, &Device::Cpu).unwrap();
        let single = (single * 50.0).unwrap().repeat((tokens / head_dim, 3));
        let single = single.unwrap().unsqueeze(0).unwrap();
        let noise = random(&[1, tokens, 3 * head_dim]);
        let positions: Vec<[f64; 1]> = (0..2 * tokens).map(|i| [i as f64]).collect();
        let rope = RopeTable::new(&positions, &[head_dim], 1e4, &Device::Cpu).unwrap();
        let (q, k, _) = qk_norm_rope(
            &[(&single, &first), (&noise, &second)],
            Heads { query: 1, key: 1 },
            Pairs::Neighbours,
            &rope,
            1e-6,
        )
        .unwrap();
        let most = |x: &Tensor| {
            let most = x.abs().unwrap().max_all().unwrap();
            most.to_scalar::<f32>().unwrap()
        };
        let of_both = QkBounds::of(&[&first, &second]).unwrap();
        // The factor allows for float32 rounding.
        assert!(most(&q) <= of_both.query * 1.0001 && most(&k) <= of_both.key * 1.0001);
        let of_first = QkBounds::of(&[&first]).unwrap();
        assert!(of_first.query <= of_both.query && of_first.key <= of_both.key);
        let reached = most(&k.narrow(1, 0, tokens).unwrap()) / of_first.key;
        // After a rotation, the larger element of a pair holds at least 0.7 of the pair's length.
        assert!((0.7..=1.0).contains(&reached), "{reached}");
    }
}
