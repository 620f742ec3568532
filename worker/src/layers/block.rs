//! The products of a transformer block together with what surrounds them: the wide projections
//! need not exist as tensors where a device can go on with their sums.

use candle_core::{Result, Tensor, D};

#[cfg(feature = "cuda")]
use super::attention::{attention, Mask};
use super::attention::{attention_and_swiglu, attention_fp8};
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

/// [`qk_norm_rope`] of the projections of several streams, by neighbouring pairs: q
/// `[B, sum of S, H, D]`, k and v `[B, sum of S, G, D]`.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn project_heads(
    streams: &[HeadProjection],
    heads: Heads,
    rope: &RopeTable,
) -> Result<(Tensor, Tensor, Tensor)> {
    let inputs: Vec<Input> = streams
        .iter()
        .map(|stream| stream.normed.input())
        .collect::<Result<_>>()?;
    #[cfg(feature = "cuda")]
    if let Some(all) = on_gpu(streams, &inputs, |projections| {
        cuda::project_heads(projections, heads, rope)
    })? {
        return Ok(all);
    }
    let mut packed = Vec::with_capacity(streams.len());
    for (stream, input) in streams.iter().zip(&inputs) {
        packed.push((stream.normed.linear.product(input)?, stream.norms));
    }
    let packed: Vec<_> = packed.iter().map(|(qkv, norms)| (qkv, *norms)).collect();
    let eps = streams.first().map_or(0.0, |stream| stream.eps);
    qk_norm_rope(&packed, heads, Pairs::Neighbours, rope, eps)
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

/// A single-stream block's projection: q, k and v, and what becomes of its MLP.
pub struct JointProjection {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mlp: Mlp,
}

enum Mlp {
    /// Up and gate, `[B, S, 2 I]`.
    UpGate(Tensor),
    /// [`swiglu`] of them in the last I columns of `[B, S, H D + I]`.
    #[cfg(feature = "cuda")]
    Behind(Tensor),
}

/// A projection to q, k and v of `heads` and, behind them, to up and gate of an MLP.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn project_jointly(
    projection: &HeadProjection,
    heads: Heads,
    rope: &RopeTable,
) -> Result<JointProjection> {
    let input = projection.normed.input()?;
    #[cfg(feature = "cuda")]
    if let Some((q, k, v, joint)) = on_gpu(
        std::slice::from_ref(projection),
        std::slice::from_ref(&input),
        |projections| cuda::project_jointly(&projections[0], heads, rope),
    )? {
        let mlp = Mlp::Behind(joint);
        return Ok(JointProjection { q, k, v, mlp });
    }
    let packed = projection.normed.linear.product(&input)?;
    let head_columns = (heads.query + 2 * heads.key) * projection.norms.query.dim(0)?;
    let (q, k, v) = qk_norm_rope(
        &[(&packed, projection.norms)],
        heads,
        Pairs::Neighbours,
        rope,
        projection.eps,
    )?;
    let rest = packed.dim(D::Minus1)? - head_columns;
    let mlp = Mlp::UpGate(packed.narrow(D::Minus1, head_columns, rest)?);
    Ok(JointProjection { q, k, v, mlp })
}

impl JointProjection {
    /// The attention, [`attention_fp8`] where `bounds` are given, and beside it the MLP's inner
    /// activations: `[B, S, H D + I]`, what the block projects back.
    ///
    /// # Errors
    /// The device fails.
    pub fn attend(self, bounds: Option<QkBounds>) -> Result<Tensor> {
        let Self { q, k, v, mlp } = self;
        match (mlp, bounds) {
            (Mlp::UpGate(up_gate), None) => attention_and_swiglu(&q, &k, &v, &up_gate),
            (Mlp::UpGate(up_gate), Some(bounds)) => {
                let attended = attention_fp8(&q, &k, &v, bounds)?;
                Tensor::cat(&[attended, swiglu(&up_gate)?], 2)
            }
            #[cfg(feature = "cuda")]
            (Mlp::Behind(joint), bounds) => {
                let (_, _, heads, head_dim) = q.dims4()?;
                let width = heads * head_dim;
                let before = joint.narrow(2, 0, width)?;
                let in_fp8 = match bounds {
                    Some(bounds) => cuda::attention_fp8_into(&q, &k, &v, bounds, &before)?,
                    None => false,
                };
                if in_fp8 || cuda::attention_into(&q, &k, &v, false, &before)? {
                    return Ok(joint);
                }
                let inner = joint.narrow(2, width, joint.dim(2)? - width)?;
                Tensor::cat(&[attention(&q, &k, &v, Mask::None)?, inner], 2)
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
