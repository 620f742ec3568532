//! Products of a transformer block combined with the operations that follow them. A device may
//! fuse both, so that the wide intermediate result is never stored.

use candle_core::{Result, Tensor, D};

use super::adapter::current_norms;
use super::attention::{attention_and_swiglu, unmasked_attention};
use super::backend::fused;
use super::copy::concat;
use super::factors::HeadFactors;
use super::fused::{Fused, ReadyHeads};
use super::heads::{HeadNorms, Heads, Pairs, QkBounds, RopeTable};
use super::linear::{Linear, Ready};
use super::mlp::{gated_residual, swiglu};
use super::rope::qk_norm_rope;

/// A linear layer applied to a modulated LayerNorm: `x` `[B, S, H]`, `shift` and `scale`
/// `[1 or B, H]`.
pub struct Normed<'a> {
    /// Input of the norm.
    pub x: &'a Tensor,
    /// Added to the normalised input.
    pub shift: &'a Tensor,
    /// The normalised input is multiplied by `1 + scale`.
    pub scale: &'a Tensor,
    /// Epsilon of the norm.
    pub eps: f64,
    /// The layer that takes the modulated norm.
    pub linear: &'a Linear,
}

impl Normed<'_> {
    pub(super) fn ready(&self) -> Result<Ready> {
        self.linear
            .ready_normed(self.x, self.shift, self.scale, self.eps)
    }
}

/// A packed projection to heads, their norms, and the norms' epsilon.
pub struct HeadProjection<'a> {
    /// Projects to `[B, S, (H + 2 G) D]` or wider.
    pub normed: Normed<'a>,
    /// RMSNorm weights of the query and key heads.
    pub norms: &'a HeadNorms,
    /// Epsilon of the head norms.
    pub eps: f64,
}

/// A projection to heads, with what the current adapter set changes in it.
struct ReadyProjection {
    ready: Ready,
    norms: HeadNorms,
    bounds: Option<QkBounds>,
    eps: f64,
}

impl HeadProjection<'_> {
    fn ready(&self, bounds: Option<QkBounds>) -> Result<ReadyProjection> {
        let (norms, bounds) = current_norms(self.norms, bounds);
        Ok(ReadyProjection {
            ready: self.normed.ready()?,
            norms,
            bounds,
            eps: self.eps,
        })
    }
}

impl ReadyProjection {
    fn factors(&self) -> Option<HeadFactors<'_>> {
        Some(HeadFactors {
            factors: self.ready.factors()?,
            bias: self.ready.bias(),
            norms: &self.norms,
            eps: self.eps,
        })
    }
}

/// Normalised and rotated q, k and v, ready for attention.
pub struct ProjectedHeads {
    heads: ReadyHeads,
    bounds: Option<QkBounds>,
}

impl ProjectedHeads {
    /// [`unmasked_attention`] with the bounds of the projection: `[B, S, H D]`.
    ///
    /// # Errors
    /// The operation was cancelled, or the result cannot be allocated.
    pub fn attend(&self) -> Result<Tensor> {
        match &self.heads {
            ReadyHeads::Dense(q, k, v) => unmasked_attention(q, k, v, self.bounds),
            ReadyHeads::Device(heads) => heads.attend(),
        }
    }

    /// Writes [`attend`](Self::attend) into `out`, whose rows lie in a wider tensor; `false` if
    /// the device cannot.
    fn attend_into(&self, out: &Tensor) -> Result<bool> {
        let (q, k, v) = match &self.heads {
            ReadyHeads::Dense(q, k, v) => (q, k, v),
            ReadyHeads::Device(heads) => return heads.attend_into(out).map(|()| true),
        };
        let in_fp8 = match self.bounds {
            Some(bounds) => fused().attention_fp8_into([q, k, v], bounds, out)?,
            None => false,
        };
        Ok(in_fp8 || fused().attention_into([q, k, v], out)?)
    }

    /// q, k and v.
    #[cfg(test)]
    pub(super) fn dense(self) -> (Tensor, Tensor, Tensor) {
        match self.heads {
            ReadyHeads::Dense(q, k, v) => (q, k, v),
            ReadyHeads::Device(_) => panic!("heads in 8-bit floats"),
        }
    }
}

/// [`qk_norm_rope`] with neighbouring pairs of the projections of several streams, for
/// [`unmasked_attention`] within `bounds` over all their tokens.
///
/// # Errors
/// The shapes do not fit, or the operation was cancelled.
pub fn project_heads(
    streams: &[HeadProjection],
    heads: Heads,
    rope: &RopeTable,
    bounds: Option<QkBounds>,
) -> Result<ProjectedHeads> {
    let streams: Vec<ReadyProjection> = streams
        .iter()
        .map(|stream| stream.ready(bounds))
        .collect::<Result<_>>()?;
    let bounds = streams
        .iter()
        .filter_map(|stream| stream.bounds)
        .reduce(QkBounds::union);
    let factors: Option<Vec<_>> = streams.iter().map(ReadyProjection::factors).collect();
    if let Some(factors) = factors {
        if let Some(heads) = fused().project_heads(&factors, heads, rope, bounds)? {
            return Ok(ProjectedHeads { heads, bounds });
        }
    }
    let mut packed = Vec::with_capacity(streams.len());
    for stream in &streams {
        packed.push((stream.ready.product()?, &stream.norms));
    }
    let packed: Vec<_> = packed.iter().map(|(qkv, norms)| (qkv, *norms)).collect();
    let eps = streams.first().map_or(0.0, |stream| stream.eps);
    let (q, k, v) = qk_norm_rope(&packed, heads, Pairs::Neighbours, rope, eps)?;
    Ok(ProjectedHeads {
        heads: ReadyHeads::Dense(q, k, v),
        bounds,
    })
}

/// [`swiglu`] of a projection to up and gate: `[B, S, I]`.
///
/// # Errors
/// The shapes do not fit, or the operation was cancelled.
pub fn project_swiglu(normed: &Normed) -> Result<Tensor> {
    let ready = normed.ready()?;
    if let Some(factors) = ready.factors() {
        if let Some(y) = fused().project_swiglu(&factors, ready.bias())? {
            return Ok(y);
        }
    }
    swiglu(&ready.product()?)
}

/// A single-stream block's projection: its heads and its MLP.
pub struct JointProjection {
    heads: ProjectedHeads,
    mlp: Mlp,
}

enum Mlp {
    /// Up and gate, `[B, S, 2 I]`.
    UpGate(Tensor),
    /// `joint` `[B, S, H D + I]`, whose last I columns hold the [`swiglu`] and whose first
    /// `head_columns` the attention is written into.
    Joint { joint: Tensor, head_columns: usize },
}

/// A projection to q, k and v of `heads`, followed by up and gate of an MLP.
///
/// # Errors
/// The shapes do not fit, or the operation was cancelled.
pub fn project_jointly(
    projection: &HeadProjection,
    heads: Heads,
    rope: &RopeTable,
    bounds: Option<QkBounds>,
) -> Result<JointProjection> {
    let projection = projection.ready(bounds)?;
    let (bounds, norms) = (projection.bounds, &projection.norms);
    let head_dim = norms.query.dim(0)?;
    if let Some(factors) = projection.factors() {
        if let Some((ready, joint)) = fused().project_jointly(&factors, heads, rope, bounds)? {
            return Ok(JointProjection {
                heads: ProjectedHeads {
                    heads: ready,
                    bounds,
                },
                mlp: Mlp::Joint {
                    joint,
                    head_columns: heads.query * head_dim,
                },
            });
        }
    }
    let packed = projection.ready.product()?;
    let head_columns = (heads.query + 2 * heads.key) * head_dim;
    let (q, k, v) = qk_norm_rope(
        &[(&packed, norms)],
        heads,
        Pairs::Neighbours,
        rope,
        projection.eps,
    )?;
    let rest = packed.dim(D::Minus1)? - head_columns;
    let heads = ReadyHeads::Dense(q, k, v);
    Ok(JointProjection {
        heads: ProjectedHeads { heads, bounds },
        mlp: Mlp::UpGate(packed.narrow(D::Minus1, head_columns, rest)?),
    })
}

impl JointProjection {
    /// The heads' [attention](ProjectedHeads::attend) and the MLP's inner activations,
    /// concatenated to the input `[B, S, H D + I]` of the block's output projection.
    ///
    /// # Errors
    /// The operation was cancelled, or the result cannot be allocated.
    pub fn attend(self) -> Result<Tensor> {
        let Self { heads, mlp } = self;
        match (mlp, &heads) {
            (
                Mlp::UpGate(up_gate),
                ProjectedHeads {
                    heads: ReadyHeads::Dense(q, k, v),
                    bounds: None,
                },
            ) => attention_and_swiglu(q, k, v, &up_gate),
            (Mlp::UpGate(up_gate), heads) => concat(&[&heads.attend()?, &swiglu(&up_gate)?], 2),
            (
                Mlp::Joint {
                    joint,
                    head_columns,
                },
                heads,
            ) => {
                if heads.attend_into(&joint.narrow(2, 0, head_columns)?)? {
                    return Ok(joint);
                }
                let inner = joint.narrow(2, head_columns, joint.dim(2)? - head_columns)?;
                concat(&[&heads.attend()?, &inner], 2)
            }
        }
    }
}

/// [`gated_residual`] of a layer: `x + gate * linear(y)` for `x` `[B, S, H]` and `gate`
/// `[1 or B, H]`.
///
/// # Errors
/// The shapes do not fit, or the operation was cancelled.
pub fn gated_linear(x: &Tensor, gate: &Tensor, linear: &Linear, y: &Tensor) -> Result<Tensor> {
    let ready = linear.ready(y)?;
    if let Some(factors) = ready.factors() {
        if let Some(sum) = fused().gated_linear(x, gate, &factors, ready.bias())? {
            return Ok(sum);
        }
    }
    gated_residual(x, gate, &ready.product()?)
}
