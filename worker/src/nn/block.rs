//! The products of a transformer block together with what surrounds them: the wide projections
//! need not exist as tensors where a device can go on with their sums.

use candle_core::{Result, Tensor, D};

use super::attention::{attention_and_swiglu, unmasked_attention};
use super::copy::concat;
#[cfg(feature = "cuda")]
use super::cuda;
use super::linear::{Input, Linear};
use super::mlp::{gated_residual, swiglu};
use super::rope::{qk_norm_rope, HeadNorms, Heads, Pairs, QkBounds, RopeTable};

/// A layer behind a modulated LayerNorm: `x` `[B, S, H]`, `shift` and `scale` `[1 or B, H]`.
pub struct Normed<'a> {
    /// What is normed.
    pub x: &'a Tensor,
    /// Added to the normed.
    pub shift: &'a Tensor,
    /// The normed is multiplied by one more than this.
    pub scale: &'a Tensor,
    /// Epsilon of the norm.
    pub eps: f64,
    /// What is behind it.
    pub linear: &'a Linear,
}

impl Normed<'_> {
    pub(super) fn input(&self) -> Result<Input> {
        self.linear
            .normed_input(self.x, self.shift, self.scale, self.eps)
    }
}

/// A packed projection, its head norms, and their epsilon.
pub struct HeadProjection<'a> {
    /// To `[B, S, (H + 2 G) D]`, or wider.
    pub normed: Normed<'a>,
    /// Of q and of k.
    pub norms: &'a HeadNorms,
    /// Epsilon of the head norms.
    pub eps: f64,
}

/// q, k and v, normed and rotated, on their way to an attention.
pub struct ProjectedHeads {
    heads: ReadyHeads,
    bounds: Option<QkBounds>,
}

/// q, k and v as an attention takes them.
pub(super) enum ReadyHeads {
    /// q `[B, S, H, D]`, k and v `[B, S, G, D]`.
    Whole(Tensor, Tensor, Tensor),
    /// For an attention in 8-bit floats.
    #[cfg(feature = "cuda")]
    Fp8(Box<cuda::Fp8Heads>),
}

impl ProjectedHeads {
    /// Their [`unmasked_attention`], within the bounds that were given: `[B, S, H D]`.
    ///
    /// # Errors
    /// The device fails.
    pub fn attend(&self) -> Result<Tensor> {
        let (q, k, v) = match &self.heads {
            ReadyHeads::Whole(q, k, v) => (q, k, v),
            #[cfg(feature = "cuda")]
            ReadyHeads::Fp8(heads) => return heads.attend(),
        };
        unmasked_attention(q, k, v, self.bounds)
    }

    /// Writes [`attend`](Self::attend) into `out`, whose rows lie in a wider tensor; `false` where
    /// that cannot be done.
    #[cfg(feature = "cuda")]
    fn attend_into(&self, out: &Tensor) -> Result<bool> {
        let (q, k, v) = match &self.heads {
            ReadyHeads::Whole(q, k, v) => (q, k, v),
            ReadyHeads::Fp8(heads) => return heads.attend_into(out).map(|()| true),
        };
        let in_fp8 = match self.bounds {
            Some(bounds) => cuda::attention_fp8_into(q, k, v, bounds, out)?,
            None => false,
        };
        Ok(in_fp8 || cuda::attention_into(q, k, v, false, out)?)
    }

    /// q, k and v.
    #[cfg(all(test, feature = "cuda"))]
    pub(super) fn whole(self) -> (Tensor, Tensor, Tensor) {
        match self.heads {
            ReadyHeads::Whole(q, k, v) => (q, k, v),
            ReadyHeads::Fp8(_) => panic!("heads in 8-bit floats"),
        }
    }
}

/// [`qk_norm_rope`] of the projections of several streams, by neighbouring pairs, for an attention
/// over all their tokens: [`unmasked_attention`] within `bounds`.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn project_heads(
    streams: &[HeadProjection],
    heads: Heads,
    rope: &RopeTable,
    bounds: Option<QkBounds>,
) -> Result<ProjectedHeads> {
    let inputs: Vec<Input> = streams
        .iter()
        .map(|stream| stream.normed.input())
        .collect::<Result<_>>()?;
    #[cfg(feature = "cuda")]
    if let Some(heads) = on_gpu(streams, &inputs, |projections| {
        cuda::project_heads(projections, heads, rope, bounds)
    })? {
        return Ok(ProjectedHeads { heads, bounds });
    }
    let mut packed = Vec::with_capacity(streams.len());
    for (stream, input) in streams.iter().zip(&inputs) {
        packed.push((stream.normed.linear.product(input)?, stream.norms));
    }
    let packed: Vec<_> = packed.iter().map(|(qkv, norms)| (qkv, *norms)).collect();
    let eps = streams.first().map_or(0.0, |stream| stream.eps);
    let (q, k, v) = qk_norm_rope(&packed, heads, Pairs::Neighbours, rope, eps)?;
    let heads = ReadyHeads::Whole(q, k, v);
    Ok(ProjectedHeads { heads, bounds })
}

/// [`swiglu`] of a projection to up and gate: `[B, S, I]`.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn project_swiglu(normed: &Normed) -> Result<Tensor> {
    let input = normed.input()?;
    #[cfg(feature = "cuda")]
    if let Some(factors) = normed.linear.factors(&input) {
        if let Some(y) = cuda::project_swiglu(&factors, normed.linear.bias())? {
            return Ok(y);
        }
    }
    swiglu(&normed.linear.product(&input)?)
}

/// A single-stream block's projection: its heads, and what becomes of its MLP.
pub struct JointProjection {
    heads: ProjectedHeads,
    mlp: Mlp,
}

enum Mlp {
    /// Up and gate, `[B, S, 2 I]`.
    UpGate(Tensor),
    /// [`swiglu`] of them in the last I columns of `[B, S, H D + I]`, with so many before.
    #[cfg(feature = "cuda")]
    Behind(Tensor, usize),
}

/// A projection to q, k and v of `heads` and, behind them, to up and gate of an MLP.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn project_jointly(
    projection: &HeadProjection,
    heads: Heads,
    rope: &RopeTable,
    bounds: Option<QkBounds>,
) -> Result<JointProjection> {
    let input = projection.normed.input()?;
    let head_dim = projection.norms.query.dim(0)?;
    #[cfg(feature = "cuda")]
    if let Some((heads_there, joint)) = on_gpu(
        std::slice::from_ref(projection),
        std::slice::from_ref(&input),
        |projections| cuda::project_jointly(&projections[0], heads, rope, bounds),
    )? {
        return Ok(JointProjection {
            heads: ProjectedHeads {
                heads: heads_there,
                bounds,
            },
            mlp: Mlp::Behind(joint, heads.query * head_dim),
        });
    }
    let packed = projection.normed.linear.product(&input)?;
    let head_columns = (heads.query + 2 * heads.key) * head_dim;
    let (q, k, v) = qk_norm_rope(
        &[(&packed, projection.norms)],
        heads,
        Pairs::Neighbours,
        rope,
        projection.eps,
    )?;
    let rest = packed.dim(D::Minus1)? - head_columns;
    let heads = ReadyHeads::Whole(q, k, v);
    Ok(JointProjection {
        heads: ProjectedHeads { heads, bounds },
        mlp: Mlp::UpGate(packed.narrow(D::Minus1, head_columns, rest)?),
    })
}

impl JointProjection {
    /// The heads' [attention](ProjectedHeads::attend) and beside it the MLP's inner activations:
    /// `[B, S, H D + I]`, what the block projects back.
    ///
    /// # Errors
    /// The device fails.
    pub fn attend(self) -> Result<Tensor> {
        let Self { heads, mlp } = self;
        match (mlp, &heads) {
            (
                Mlp::UpGate(up_gate),
                ProjectedHeads {
                    heads: ReadyHeads::Whole(q, k, v),
                    bounds: None,
                },
            ) => attention_and_swiglu(q, k, v, &up_gate),
            (Mlp::UpGate(up_gate), heads) => concat(&[&heads.attend()?, &swiglu(&up_gate)?], 2),
            #[cfg(feature = "cuda")]
            (Mlp::Behind(joint, width), heads) => {
                if heads.attend_into(&joint.narrow(2, 0, width)?)? {
                    return Ok(joint);
                }
                let inner = joint.narrow(2, width, joint.dim(2)? - width)?;
                concat(&[&heads.attend()?, &inner], 2)
            }
        }
    }
}

/// [`gated_residual`] of a layer: `x + gate * linear(y)` for `x` `[B, S, H]` and `gate`
/// `[1 or B, H]`.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn gated_linear(x: &Tensor, gate: &Tensor, linear: &Linear, y: &Tensor) -> Result<Tensor> {
    let input = linear.input(y)?;
    #[cfg(feature = "cuda")]
    if let Some(factors) = linear.factors(&input) {
        if let Some(sum) = cuda::gated_linear(x, gate, &factors, linear.bias())? {
            return Ok(sum);
        }
    }
    gated_residual(x, gate, &linear.product(&input)?)
}

/// Runs `body` with the projections as a GPU's kernels take them, if they do.
#[cfg(feature = "cuda")]
fn on_gpu<R>(
    streams: &[HeadProjection],
    inputs: &[Input],
    body: impl FnOnce(&[cuda::HeadFactors]) -> Result<Option<R>>,
) -> Result<Option<R>> {
    let projections: Option<Vec<_>> = streams
        .iter()
        .zip(inputs)
        .map(|(stream, input)| {
            Some(cuda::HeadFactors {
                factors: stream.normed.linear.factors(input)?,
                bias: stream.normed.linear.bias(),
                norms: stream.norms,
                eps: stream.eps,
            })
        })
        .collect();
    projections.map_or(Ok(None), |projections| body(&projections))
}
