//! Attention heads in a packed projection: counts, norms, rotation and bounds.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};

/// How many heads a packed projection holds: query heads, then key heads, then as many value
/// heads as key heads.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Number of query heads.
    pub query: usize,
    /// Number of key heads, and of value heads.
    pub key: usize,
}

/// Which two elements of a head the rotation treats as one complex number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Neighbouring elements `2 i` and `2 i + 1`, as in FLUX.1.
    Neighbours,
    /// Element `i` of the first half and element `i` of the second half, as in Qwen3.
    Halves,
}

/// The RMSNorm weights `[D]` of a projection's query and key heads.
#[derive(Clone, Debug)]
pub struct HeadNorms {
    /// Weight of the queries' norm.
    pub query: Tensor,
    /// Weight of the keys' norm.
    pub key: Tensor,
}

/// Upper bounds on the magnitudes of queries and keys after their norm and rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QkBounds {
    /// Bound of every query element.
    pub query: f32,
    /// Bound of every key element.
    pub key: f32,
}

impl QkBounds {
    /// Bounds that hold for heads normalised with any of these weights. RMSNorm makes the squares
    /// of a head's D elements sum up to D, so after the weight w no pair is longer than
    /// `sqrt(D) max |w|`, and a rotation keeps a pair's length. Synchronises with the device.
    ///
    /// # Errors
    /// A weight is not one-dimensional or cannot be copied from its device.
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
            bounds = bounds.union(Self {
                query: bound(&norms.query)?,
                key: bound(&norms.key)?,
            });
        }
        Ok(bounds)
    }

    /// Bounds that hold where either holds.
    pub(super) fn union(self, other: Self) -> Self {
        Self {
            query: self.query.max(other.query),
            key: self.key.max(other.key),
        }
    }
}

/// Cosines and sines of the rotary position embedding (Su et al. 2021), each `[S, D/2]` float32.
#[derive(Clone, Debug)]
pub struct RopeTable {
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
}

impl RopeTable {
    /// Angles over several axes: `positions[s][a]` rotates the pairs of axis `a`, which covers
    /// `axes_dim[a]` elements of the head, at frequencies `theta^(-2i / axes_dim[a])`. Angles are
    /// computed in float64, as diffusers does on a CPU.
    ///
    /// # Errors
    /// The tables cannot be allocated on the device.
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
        // Many tokens share few coordinates along an axis, so each angle is computed once.
        let mut known: HashMap<(usize, u64), (Vec<f32>, Vec<f32>)> = HashMap::new();
        let shape = (positions.len(), frequencies.len());
        let mut cos = Vec::with_capacity(shape.0 * shape.1);
        let mut sin = Vec::with_capacity(shape.0 * shape.1);
        for position in positions {
            for (axis, &coordinate) in position.iter().enumerate() {
                let angles = known
                    .entry((axis, coordinate.to_bits()))
                    .or_insert_with(|| {
                        let of_axis = frequencies.iter().filter(|(of, _)| *of == axis);
                        let angles = of_axis.map(|(_, f)| (coordinate * f).sin_cos());
                        angles.map(|(sin, cos)| (sin as f32, cos as f32)).unzip()
                    });
                sin.extend_from_slice(&angles.0);
                cos.extend_from_slice(&angles.1);
            }
        }
        Ok(Self {
            cos: Tensor::from_vec(cos, shape, device)?,
            sin: Tensor::from_vec(sin, shape, device)?,
        })
    }

    /// The rows of the positions `start .. start + length`.
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
