//! Rotary position embeddings (Su et al. 2021).

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::norm::rms_norm;

/// Cosines and sines of every position's angles, `[S, D/2]` float32.
#[derive(Clone, Debug)]
pub struct RopeTable {
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
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
        // An image has few places along an axis and many tokens: each angle once.
        let mut known: HashMap<(usize, u64), (Vec<f32>, Vec<f32>)> = HashMap::new();
        let shape = (positions.len(), frequencies.len());
        let mut cos = Vec::with_capacity(shape.0 * shape.1);
        let mut sin = Vec::with_capacity(shape.0 * shape.1);
        for position in positions {
            for (axis, &place) in position.iter().enumerate() {
                let turns = known.entry((axis, place.to_bits())).or_insert_with(|| {
                    let of_axis = frequencies.iter().filter(|(of, _)| *of == axis);
                    let turns = of_axis.map(|(_, f)| (place * f).sin_cos());
                    turns.map(|(sin, cos)| (sin as f32, cos as f32)).unzip()
                });
                sin.extend_from_slice(&turns.0);
                cos.extend_from_slice(&turns.1);
            }
        }
        Ok(Self {
            cos: Tensor::from_vec(cos, shape, device)?,
            sin: Tensor::from_vec(sin, shape, device)?,
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

/// The RMSNorm weights `[D]` of a projection's query and key heads.
#[derive(Clone, Debug)]
pub struct HeadNorms {
    /// Weight of the queries' norm.
    pub query: Tensor,
    /// Weight of the keys' norm.
    pub key: Tensor,
}

/// The largest magnitudes that queries and keys can have after their norm and rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QkBounds {
    /// Of the queries.
    pub query: f32,
    /// Of the keys.
    pub key: f32,
}

impl QkBounds {
    /// Of heads of any of these norms. RMSNorm leaves a head of D numbers with squares that sum
    /// up to D, so after the weight w no pair is longer than `sqrt(D) max |w|`, and a rotation
    /// keeps its length. Waits for the device.
    ///
    /// # Errors
    /// The device fails.
    pub fn of(norms: &[&HeadNorms]) -> Result<Self> {
        let bound = |weight: &Tensor| -> Result<f32> {
            let weight = weight.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            let largest = weight.iter().fold(0f32, |most, w| most.max(w.abs()));
            Ok((weight.len() as f32).sqrt() * largest)
        };
        let mut bounds = Self {
            query: 0.0,
            key: 0.0,
        };
        for norms in norms {
            bounds.query = bounds.query.max(bound(&norms.query)?);
            bounds.key = bounds.key.max(bound(&norms.key)?);
        }
        Ok(bounds)
    }
}

/// How many heads a packed projection has: those of q, and those of k and of v
/// each.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key heads, and as many value heads.
    pub key: usize,
}

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Neighbours, as FLUX.1 has it.
    Neighbours,
    /// One of the first half and one of the second, as Qwen3 has it.
    Halves,
}

/// Splits packed projections `[B, S, (H + 2 G) D]` (or the first columns of wider
/// ones) into q `[B, sum of S, H, D]` and k and v `[B, sum of S, G, D]`, their
/// tokens one after the other, with RMSNorm over each head of q and k and then
/// rotation. `rope` covers the tokens of all projections.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn qk_norm_rope(
    projections: &[(&Tensor, &HeadNorms)],
    heads: Heads,
    pairs: Pairs,
    rope: &RopeTable,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    #[cfg(feature = "cuda")]
    if let Some(parts) = cuda::qk_norm_rope(projections, heads, pairs, (&rope.cos, &rope.sin), eps)?
    {
        return Ok(parts);
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
        let turned = |x: Tensor, weight: &Tensor| -> Result<Tensor> {
            let x = rms_norm(&x, weight, eps)?.transpose(1, 2)?.contiguous()?;
            let wide = x.to_dtype(DType::F32)?;
            let turn = match pairs {
                Pairs::Neighbours => candle_nn::rotary_emb::rope_i,
                Pairs::Halves => candle_nn::rotary_emb::rope,
            };
            turn(&wide, &rope.cos, &rope.sin)?
                .to_dtype(qkv.dtype())?
                .transpose(1, 2)
        };
        parts[0].push(turned(part(0, heads.query)?, &norms.query)?);
        parts[1].push(turned(part(heads.query, heads.key)?, &norms.key)?);
        parts[2].push(part(heads.query + heads.key, heads.key)?);
        offset += s;
    }
    let [q, k, v] = parts.map(|part| Tensor::cat(&part, 1));
    Ok((q?, k?, v?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads of one large number among zeros, the most that a norm makes of one, and random ones.
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
        // But for the rounding of float32.
        assert!(most(&q) <= of_both.query * 1.0001 && most(&k) <= of_both.key * 1.0001);
        let of_first = QkBounds::of(&[&first]).unwrap();
        assert!(of_first.query <= of_both.query && of_first.key <= of_both.key);
        let reached = most(&k.narrow(1, 0, tokens).unwrap()) / of_first.key;
        // A turned pair keeps more than this in the larger of its two numbers.
        assert!((0.7..=1.0).contains(&reached), "{reached}");
    }
}
