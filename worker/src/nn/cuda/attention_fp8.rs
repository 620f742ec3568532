//! cuDNN's fused attention in 8-bit floats, on Hopper and later. It takes normalised and rotated
//! bf16 heads of any strides, or heads that a projection has already written in fp8.

use std::rc::Rc;

use candle_core::{bail, CudaDevice, DType, Device, Result, Tensor};

use super::address::{address, shared_gpu, typed_output};
use super::attention::key_heads;
use super::cudnn::{AttentionShape, Cudnn, Terms};
use super::fp8_heads::{widen_into, widened, Attended, Rows, Slots, CUDNN_SLOTS};
use super::libraries::cudnn;
use crate::nn::fused::DeviceHeads;
use crate::nn::heads::{Heads, QkBounds};
use crate::nn::scaled_rows::{LARGEST, LEAST};

/// cuDNN requires the head dimension to be a multiple of 16 bytes.
const MULTIPLE: usize = 16;

/// See [`unmasked_attention`](crate::nn::unmasked_attention).
///
/// Returns `None` also for other types than bf16, without cuDNN, on GPUs older than Hopper, and for
/// head dimensions above 256 or not a multiple of 16.
pub fn attention_fp8(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bounds: QkBounds,
) -> Result<Option<Tensor>> {
    match attend(q, k, v, bounds)? {
        Some(attended) => widened(&attended, q).map(Some),
        None => Ok(None),
    }
}

/// Writes [`attention_fp8`] into `out` `[B, S, H D]`, whose rows may lie in a wider tensor. Returns
/// `false` where [`attention_fp8`] returns `None`.
pub fn attention_fp8_into(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bounds: QkBounds,
    out: &Tensor,
) -> Result<bool> {
    match attend(q, k, v, bounds)? {
        Some(attended) => widen_into(&attended, out).map(|()| true),
        None => Ok(false),
    }
}

/// [`attention_fp8`] with a given description, for tests.
#[cfg(test)]
pub(super) fn attention_fp8_by(
    terms: Terms,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bounds: QkBounds,
) -> Result<Option<Tensor>> {
    match attend_by(&[terms], q, k, v, bounds)? {
        Some(attended) => widened(&attended, q).map(Some),
        None => Ok(None),
    }
}

/// The descriptions in the order in which they are tried, the faster first: the graph reaches 973
/// TFLOP/s at 4096 tokens on an H200 with cuDNN 9.19 (NVIDIA/cudnn-frontend,
/// benchmark/sdpa_benchmark_training, llama3.1 without a mask).
const ALL_TERMS: [Terms; 2] = [Terms::Graph, Terms::Operation];

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, bounds: QkBounds) -> Result<Option<Attended>> {
    attend_by(&ALL_TERMS, q, k, v, bounds)
}

/// Attention of bf16 heads in E4M3, or `None` if cuDNN does not support it.
fn attend_by(
    terms: &[Terms],
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bounds: QkBounds,
) -> Result<Option<Attended>> {
    let Some(device) = shared_gpu(&[q, k, v]) else {
        return Ok(None);
    };
    if q.dtype() != DType::BF16 {
        return Ok(None);
    }
    let (batch, tokens, heads, head_dim) = q.dims4()?;
    let key_heads = key_heads(q, k, v, tokens)?;
    let shape = dense_shape(batch, tokens, (heads, key_heads), head_dim);
    let Some(plan) = Plan::find(&device, shape, terms)? else {
        return Ok(None);
    };
    let slots = Slots::new(&device)?;
    let (q, k, v) = (Rows::new(q)?, Rows::new(k)?, Rows::new(v)?);
    slots.find_largest(&device, &v)?;
    let converted = slots.convert(&device, [Some(&q), Some(&k), Some(&v)], bounds)?;
    let [Some(q), Some(k), Some(v)] = converted else {
        bail!("the conversion of heads to 8-bit floats returned fewer tensors than it was given");
    };
    plan.attend(&device, [&q, &k, &v], &slots)
}

/// Heads for an fp8 attention as a projection writes them: q and k in E4M3, v in bf16, and the
/// largest magnitude of v.
pub struct Fp8Heads {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    slots: Slots,
    plan: Plan,
    bounds: QkBounds,
}

/// The addresses that a kernel writes [`Fp8Heads`] to, and the factors that it scales q and k by.
pub(super) struct Fp8HeadsAt {
    pub q: u64,
    pub k: u64,
    pub v: u64,
    pub largest_value: u64,
    pub q_factor: f32,
    pub k_factor: f32,
}

impl Fp8Heads {
    /// Allocates heads, or returns `None` if cuDNN does not support this attention in fp8.
    pub(super) fn new(
        device: &CudaDevice,
        [batch, tokens, head_dim]: [usize; 3],
        heads: Heads,
        bounds: QkBounds,
    ) -> Result<Option<Self>> {
        let shape = dense_shape(batch, tokens, (heads.query, heads.key), head_dim);
        let Some(plan) = Plan::find(device, shape, &ALL_TERMS)? else {
            return Ok(None);
        };
        let on = Device::Cuda(device.clone());
        let new = |heads, dtype| typed_output(&[batch, tokens, heads, head_dim], dtype, &on);
        Ok(Some(Self {
            q: new(heads.query, DType::F8E4M3)?,
            k: new(heads.key, DType::F8E4M3)?,
            v: new(heads.key, DType::BF16)?,
            slots: Slots::new(device)?,
            plan,
            bounds,
        }))
    }

    pub(super) fn at(&self) -> Result<Fp8HeadsAt> {
        let factor = |bound: f32| LARGEST as f32 / bound.max(LEAST as f32);
        Ok(Fp8HeadsAt {
            q: address(&self.q)?,
            k: address(&self.k)?,
            v: address(&self.v)?,
            largest_value: address(&self.slots.largest_value()?)?,
            q_factor: factor(self.bounds.query),
            k_factor: factor(self.bounds.key),
        })
    }

    fn attended(&self) -> Result<Attended> {
        let Some(device) = shared_gpu(&[&self.v]) else {
            bail!("the heads of an attention are not on a GPU");
        };
        let v = Rows::new(&self.v)?;
        let converted = self
            .slots
            .convert(&device, [None, None, Some(&v)], self.bounds)?;
        let [_, _, Some(v)] = converted else {
            bail!("the conversion of values to 8-bit floats returned no tensor");
        };
        match self
            .plan
            .attend(&device, [&self.q, &self.k, &v], &self.slots)?
        {
            Some(attended) => Ok(attended),
            None => bail!("cuDNN no longer supports an attention in 8-bit floats"),
        }
    }
}

impl DeviceHeads for Fp8Heads {
    fn attend(&self) -> Result<Tensor> {
        widened(&self.attended()?, &self.v)
    }

    fn attend_into(&self, out: &Tensor) -> Result<()> {
        widen_into(&self.attended()?, out)
    }
}

/// An attention that cuDNN supports.
struct Plan {
    cudnn: Rc<Cudnn>,
    shape: AttentionShape,
    terms: Terms,
}

impl Plan {
    fn find(device: &CudaDevice, shape: AttentionShape, terms: &[Terms]) -> Result<Option<Self>> {
        let Some(cudnn) = cudnn(device)? else {
            return Ok(None);
        };
        let head_dim = shape.q[3] as usize;
        let supported = |terms: &&Terms| cudnn.supports_fp8(&shape, **terms);
        let terms = match head_dim % MULTIPLE {
            0 => terms.iter().find(supported).copied(),
            _ => None,
        };
        Ok(terms.map(|terms| Self {
            cudnn,
            shape,
            terms,
        }))
    }

    /// Attention of contiguous E4M3 heads, or `None` if cuDNN does not support it.
    fn attend(
        &self,
        device: &CudaDevice,
        heads: [&Tensor; 3],
        slots: &Slots,
    ) -> Result<Option<Attended>> {
        let (batch, tokens, count, head_dim) = heads[0].dims4()?;
        let shape = [batch, tokens, count * head_dim];
        let values = typed_output(&shape, DType::F8E4M3, heads[0].device())?;
        let numbers = slots.of_cudnn()?;
        let tensors: [&Tensor; 4 + CUDNN_SLOTS] = std::array::from_fn(|i| match i {
            0..=2 => heads[i],
            3 => &values,
            _ => &numbers[i - 4],
        });
        let done = self
            .cudnn
            .attention_fp8(device, self.shape.clone(), self.terms, tensors)?;
        let scale = slots.output_scale()?;
        Ok(done.then_some(Attended { values, scale }))
    }
}

/// The shape of unmasked attention over contiguous `[B, S, heads, D]` tensors.
fn dense_shape(
    batch: usize,
    tokens: usize,
    (heads, key_heads): (usize, usize),
    head_dim: usize,
) -> AttentionShape {
    let [b, s, d] = [batch, tokens, head_dim].map(|count| count as i64);
    let dims = |heads: usize| [b, heads as i64, s, d];
    let strides = |heads: usize| {
        let row = heads as i64 * d;
        [s * row, d, row, 1]
    };
    AttentionShape {
        q: dims(heads),
        kv: dims(key_heads),
        q_strides: strides(heads),
        k_strides: strides(key_heads),
        v_strides: strides(key_heads),
        o_strides: strides(heads),
        causal: false,
    }
}
