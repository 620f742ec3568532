//! cuDNN's fused attention in 8-bit floats, on Hopper and later.
//!
//! What goes in is bf16 heads that are normed and rotated already, of any strides: who made them
//! does not matter.

use candle_core::{bail, CudaDevice, DType, Device, Result, Tensor};

use super::cudnn::{AttentionShape, Terms};
use super::runtime::{
    address, cudnn, output, pack, row_grid, rows, shared_gpu, threads_for, typed_output, Arg,
    Kernel, THREADS,
};
use crate::layers::QkBounds;

/// Heads must be a multiple of this, cuDNN's own limit: 16 bytes.
const MULTIPLE: usize = 16;

/// Most blocks that look for the largest value of a batch entry: enough to fill a GPU.
const MOST_BLOCKS: usize = 512;

/// Numbers that an attention takes, makes or needs on the way, in the order of `Slot` in
/// `kernels/fp8_heads.cu`; the first [`CUDNN_SLOTS`] are cuDNN's.
const SLOTS: usize = 10;
const CUDNN_SLOTS: usize = 8;
const DESCALE_OUTPUT: usize = 8;

/// Floats of a slot: each number is aligned to 16 bytes, which cuDNN takes tensors to be.
const SLOT: usize = 4;

/// The result of an attention, `[B, S, H D]` of E4M3, and the number `[1]` float32 to multiply
/// it by.
struct Attended {
    values: Tensor,
    scale: Tensor,
}

/// See [`attention_fp8`](crate::layers::attention_fp8).
///
/// Answers `None` also for tensors that are not bf16, where cuDNN is missing, and for what it
/// does not take: GPUs older than Hopper, heads of more than 256 or no multiple of 16.
///
/// # Errors
/// The shapes do not fit, or the device fails.
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

/// Writes [`attention_fp8`] into `out` `[B, S, H D]`, whose rows may lie in a wider tensor.
/// `false` where [`attention_fp8`] answers `None`.
///
/// # Errors
/// As [`attention_fp8`].
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

/// [`attention_fp8`] in cuDNN's terms of choice, for tests.
#[cfg(test)]
pub(super) fn attention_fp8_by(
    terms: Terms,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bounds: QkBounds,
) -> Result<Option<Tensor>> {
    match attend_by(terms, q, k, v, bounds)? {
        Some(attended) => widened(&attended, q).map(Some),
        None => Ok(None),
    }
}

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, bounds: QkBounds) -> Result<Option<Attended>> {
    // The graph first: it reaches 973 TFLOP/s at 4096 tokens on an H200 with cuDNN 9.19
    // (NVIDIA/cudnn-frontend, benchmark/sdpa_benchmark_training, llama3.1 without a mask).
    for terms in [Terms::Graph, Terms::Operation] {
        if let Some(attended) = attend_by(terms, q, k, v, bounds)? {
            return Ok(Some(attended));
        }
    }
    Ok(None)
}

/// Attention of bf16 heads through E4M3; `None` when cuDNN does not take it.
fn attend_by(
    terms: Terms,
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
    let key_heads = k.dim(2)?;
    let fits = k.dims() == v.dims()
        && k.dims() == [batch, tokens, key_heads, head_dim]
        && key_heads > 0
        && heads % key_heads == 0;
    if !fits {
        bail!(
            "attention of {:?} over {:?} and {:?} does not fit",
            q.dims(),
            k.dims(),
            v.dims()
        );
    }
    let Ok(cudnn) = cudnn(&device)? else {
        return Ok(None);
    };
    let shape = dense_shape(batch, tokens, (heads, key_heads), head_dim);
    if head_dim % MULTIPLE != 0 || !cudnn.takes_fp8(&shape, terms) {
        return Ok(None);
    }
    let inputs = Inputs::new(&device, [q, k, v], bounds)?;
    let values = typed_output(
        &[batch, tokens, heads * head_dim],
        DType::F8E4M3,
        q.device(),
    )?;
    let slots: Vec<Tensor> = (0..SLOTS)
        .map(|slot| inputs.slots.narrow(0, slot * SLOT, 1))
        .collect::<Result<_>>()?;
    let tensors: [&Tensor; 4 + CUDNN_SLOTS] = std::array::from_fn(|i| match i {
        0..=2 => &inputs.heads[i],
        3 => &values,
        _ => &slots[i - 4],
    });
    if !cudnn.attention_fp8(&device, shape, terms, tensors)? {
        return Ok(None);
    }
    Ok(Some(Attended {
        values,
        scale: slots[DESCALE_OUTPUT].clone(),
    }))
}

/// The shape of attention over contiguous `[B, S, heads, D]` tensors, without a mask.
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

/// q, k and v as contiguous E4M3, and the attention's numbers.
struct Inputs {
    heads: [Tensor; 3],
    slots: Tensor,
}

impl Inputs {
    /// Converts q, k and v, whose shapes fit. The device finds v's largest magnitude by itself:
    /// nobody waits for it.
    fn new(device: &CudaDevice, heads: [&Tensor; 3], bounds: QkBounds) -> Result<Self> {
        let from = [
            Rows::new(heads[0])?,
            Rows::new(heads[1])?,
            Rows::new(heads[2])?,
        ];
        let (batch, tokens, _, _) = heads[0].dims4()?;
        let on = Device::Cuda(device.clone());
        let to = [
            typed_output(heads[0].dims(), DType::F8E4M3, &on)?,
            typed_output(heads[1].dims(), DType::F8E4M3, &on)?,
            typed_output(heads[2].dims(), DType::F8E4M3, &on)?,
        ];
        let slots = Tensor::zeros(SLOTS * SLOT, DType::F32, &on)?;
        let (width, kv_width) = (from[0].width, from[2].width);
        let [q, k, v] = &from;
        // SAFETY: v has these rows, and the slots are as many as the kernel's.
        unsafe {
            kernel("largest_value").launch(
                device,
                (tokens.min(MOST_BLOCKS), batch),
                threads_for(kv_width, PACK),
                &[
                    Arg::At(address(&v.tensor)?),
                    Arg::At(address(&slots)?),
                    Arg::Count(tokens),
                    Arg::Count(kv_width),
                    Arg::Count(v.batch_stride),
                    Arg::Count(v.row_stride),
                ],
            )?;
        }
        // SAFETY: all have these rows, the new ones contiguous.
        unsafe {
            kernel("heads_to_fp8").launch(
                device,
                (tokens, batch),
                threads_for(width.max(kv_width), PACK),
                &[
                    Arg::At(address(&q.tensor)?),
                    Arg::At(address(&k.tensor)?),
                    Arg::At(address(&v.tensor)?),
                    Arg::At(address(&to[0])?),
                    Arg::At(address(&to[1])?),
                    Arg::At(address(&to[2])?),
                    Arg::At(address(&slots)?),
                    Arg::Count(width),
                    Arg::Count(kv_width),
                    Arg::Count(q.batch_stride),
                    Arg::Count(q.row_stride),
                    Arg::Count(k.batch_stride),
                    Arg::Count(k.row_stride),
                    Arg::Count(v.batch_stride),
                    Arg::Count(v.row_stride),
                    Arg::Real(bounds.query),
                    Arg::Real(bounds.key),
                ],
            )?;
        }
        Ok(Self { heads: to, slots })
    }
}

/// Elements of bf16 that the kernels move at a time.
const PACK: usize = 8;

fn kernel(name: &'static str) -> Kernel {
    Kernel {
        family: "fp8_heads",
        name,
        dtype: DType::BF16,
        pack: PACK,
    }
}

/// Heads `[B, S, heads, D]` as rows of a token's heads side by side.
struct Rows {
    tensor: Tensor,
    width: usize,
    batch_stride: usize,
    row_stride: usize,
}

impl Rows {
    /// The tensor itself, or a contiguous copy where its rows are not dense or not aligned.
    fn new(heads: &Tensor) -> Result<Self> {
        let (_, _, count, head_dim) = heads.dims4()?;
        let stride = heads.stride();
        let dense = stride[3] == 1 && (stride[2] == head_dim || count == 1);
        let counts = [head_dim, stride[0], stride[1]];
        let tensor = match dense && pack(heads.dtype(), &counts, &[address(heads)?]) == PACK {
            true => heads.clone(),
            false => heads.force_contiguous()?,
        };
        Ok(Self {
            width: count * head_dim,
            batch_stride: tensor.stride()[0],
            row_stride: tensor.stride()[1],
            tensor,
        })
    }
}

/// An attention's result in the type of `like`.
fn widened(attended: &Attended, like: &Tensor) -> Result<Tensor> {
    let y = output(attended.values.dims(), like)?;
    widen_into(attended, &y)?;
    Ok(y)
}

/// Writes an attention's result into `out` of its shape.
fn widen_into(attended: &Attended, out: &Tensor) -> Result<()> {
    let (Some(device), Some(to)) = (shared_gpu(&[out]), rows(out)) else {
        bail!("an attention's result goes to another device or layout");
    };
    let fits = attended.values.dims() == out.dims()
        && pack(out.dtype(), &[to.width, to.stride], &[address(out)?]) == PACK;
    if !fits {
        bail!("an attention's result does not fit {:?}", out.dims());
    }
    // SAFETY: both hold `to.count` rows of `to.width`, a multiple of a pack.
    unsafe {
        kernel("widen_fp8").launch(
            &device,
            row_grid(to.count, to.width, PACK),
            THREADS,
            &[
                Arg::At(address(&attended.values)?),
                Arg::At(address(&attended.scale)?),
                Arg::At(address(out)?),
                Arg::Count(to.count),
                Arg::Count(to.width),
                Arg::Count(to.stride),
            ],
        )
    }
}
