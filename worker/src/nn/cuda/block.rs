//! A transformer block's products fused with the operations that follow them, on Hopper.

use candle_core::{CudaDevice, DType, Device, Result, Tensor, D};

use super::address::{address, typed_output};
use super::attention_fp8::Fp8Heads;
use super::copy::dense;
use super::hopper::{Epilogue, Gated, Projected, TILE_COLUMNS};
use super::libraries::hopper;
use super::rows_of::one_row_an_entry;
use crate::nn::factors::{Factors, HeadFactors, Operands};
use crate::nn::fused::ReadyHeads;
use crate::nn::heads::{Heads, QkBounds, RopeTable};

/// Head dimension that the fused norm and rotation is compiled for.
pub(super) const HEAD_DIM: usize = 128;

impl HeadFactors<'_> {
    /// The GPU, or `None` if it is not a Hopper or its kernels do not support these heads.
    fn device(&self) -> Result<Option<CudaDevice>> {
        let norms = [&self.norms.query, &self.norms.key];
        let fits = norms
            .iter()
            .all(|t| t.dims() == [HEAD_DIM] && t.dtype() == DType::BF16);
        match self.factors.device() {
            Some(device) if fits && hopper(&device)?.is_some() => Ok(Some(device)),
            _ => Ok(None),
        }
    }
}

impl Factors<'_> {
    fn x(&self) -> &Tensor {
        match &self.operands {
            Operands::Dense(x, _) => x,
            Operands::Fp8(x, _) => &x.values,
        }
    }

    fn outputs(&self) -> Result<usize> {
        match &self.operands {
            Operands::Dense(_, weight) => weight.dim(0),
            Operands::Fp8(_, weight) => weight.values.dim(0),
        }
    }

    /// The GPU, or `None` if the factors neither are bf16 nor were quantized from it.
    fn device(&self) -> Option<CudaDevice> {
        let bf16 = match &self.operands {
            Operands::Dense(x, _) => x.dtype() == DType::BF16,
            Operands::Fp8(x, _) => x.dtype == DType::BF16,
        };
        match self.x().device() {
            Device::Cuda(device) if bf16 => Some(device.clone()),
            _ => None,
        }
    }
}

/// Heads that projections are about to write.
enum HeadsToWrite {
    /// q, k and v as bf16 views of one tensor.
    Packed([Tensor; 3]),
    /// For an attention in fp8.
    Fp8(Box<Fp8Heads>),
}

impl From<HeadsToWrite> for ReadyHeads {
    fn from(heads: HeadsToWrite) -> Self {
        match heads {
            HeadsToWrite::Packed([q, k, v]) => Self::Dense(q, k, v),
            HeadsToWrite::Fp8(heads) => Self::Device(heads),
        }
    }
}

/// Allocates the heads of `tokens` tokens in total: in fp8 if there are `bounds` and cuDNN supports
/// the attention, else as bf16 views of one tensor.
fn heads_to_write(
    device: &CudaDevice,
    [batch, tokens]: [usize; 2],
    heads: Heads,
    bounds: Option<QkBounds>,
) -> Result<HeadsToWrite> {
    if let Some(bounds) = bounds {
        let sizes = [batch, tokens, HEAD_DIM];
        if let Some(heads) = Fp8Heads::new(device, sizes, heads, bounds)? {
            return Ok(HeadsToWrite::Fp8(Box::new(heads)));
        }
    }
    let count = heads.query + 2 * heads.key;
    let shape = [batch, tokens, count, HEAD_DIM];
    let packed = typed_output(&shape, DType::BF16, &Device::Cuda(device.clone()))?;
    let part = |start, count| packed.narrow(D::Minus2, start, count);
    Ok(HeadsToWrite::Packed([
        part(0, heads.query)?,
        part(heads.query, heads.key)?,
        part(heads.query + heads.key, heads.key)?,
    ]))
}

/// The epilogue of a product that writes these heads.
fn epilogue_at(heads: &HeadsToWrite) -> Result<Projected> {
    let epilogue = Projected::default();
    Ok(match heads {
        HeadsToWrite::Packed([q, _, _]) => Projected {
            heads: address(q)?,
            ..epilogue
        },
        HeadsToWrite::Fp8(heads) => {
            let at = heads.at()?;
            Projected {
                heads: at.v,
                queries8: at.q,
                keys8: at.k,
                largest_value: at.largest_value,
                query_factor: at.q_factor,
                key_factor: at.k_factor,
                ..epilogue
            }
        }
    })
}

/// See [`Fused::takes_updates`](crate::nn::Fused::takes_updates).
pub fn takes_updates(like: &Tensor) -> Result<bool> {
    match like.device() {
        Device::Cuda(device) if like.dtype() == DType::BF16 => Ok(hopper(device)?.is_some()),
        _ => Ok(false),
    }
}

/// See [`project_heads`](crate::nn::project_heads).
pub fn project_heads(
    streams: &[HeadFactors],
    heads: Heads,
    rope: &RopeTable,
    bounds: Option<QkBounds>,
) -> Result<Option<ReadyHeads>> {
    let Some(first) = streams.first() else {
        return Ok(None);
    };
    let mut tokens = 0;
    for stream in streams {
        if stream.factors.outputs()? != head_columns(heads) {
            return Ok(None);
        }
        tokens += stream.factors.x().dim(1)?;
    }
    let Some(device) = first.device()? else {
        return Ok(None);
    };
    let all = [first.factors.x().dim(0)?, tokens];
    let to = heads_to_write(&device, all, heads, bounds)?;
    let mut offset = 0;
    for stream in streams {
        let Some(mut epilogue) = heads_epilogue(stream, heads, rope, all, &to)? else {
            return Ok(None);
        };
        epilogue.offset = offset;
        if !run(&stream.factors, stream.bias, &Epilogue::Projected(epilogue))? {
            return Ok(None);
        }
        offset += epilogue.tokens;
    }
    Ok(Some(to.into()))
}

/// See [`project_jointly`](crate::nn::project_jointly). Returns the heads, and `[B, S, H D + I]`
/// with the MLP's inner activations in its last columns.
pub fn project_jointly(
    projection: &HeadFactors,
    heads: Heads,
    rope: &RopeTable,
    bounds: Option<QkBounds>,
) -> Result<Option<(ReadyHeads, Tensor)>> {
    let x = projection.factors.x();
    let (batch, tokens, _) = x.dims3()?;
    let outputs = projection.factors.outputs()?;
    let rest = outputs.saturating_sub(head_columns(heads));
    let Some(device) = projection.device()? else {
        return Ok(None);
    };
    if rest == 0 || rest % TILE_COLUMNS != 0 {
        return Ok(None);
    }
    let (attended, inner) = (heads.query * HEAD_DIM, rest / 2);
    let joint = typed_output(&[batch, tokens, attended + inner], DType::BF16, x.device())?;
    let all = [batch, tokens];
    let to = heads_to_write(&device, all, heads, bounds)?;
    let Some(mut epilogue) = heads_epilogue(projection, heads, rope, all, &to)? else {
        return Ok(None);
    };
    epilogue.mlp = address(&joint)? + (attended * DType::BF16.size_in_bytes()) as u64;
    epilogue.mlp_stride = (attended + inner) as i64;
    epilogue.inner = inner as i32;
    let done = run(
        &projection.factors,
        projection.bias,
        &Epilogue::Projected(epilogue),
    )?;
    Ok(done.then(|| (to.into(), joint)))
}

/// See [`project_swiglu`](crate::nn::project_swiglu).
pub fn project_swiglu(factors: &Factors, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    let outputs = factors.outputs()?;
    if outputs % TILE_COLUMNS != 0 || factors.device().is_none() {
        return Ok(None);
    }
    let mut shape = factors.x().dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs / 2;
    }
    let y = typed_output(&shape, DType::BF16, factors.x().device())?;
    let epilogue = Projected {
        mlp: address(&y)?,
        mlp_stride: (outputs / 2) as i64,
        inner: (outputs / 2) as i32,
        tokens: 1,
        ..Projected::default()
    };
    Ok(run(factors, bias, &Epilogue::Projected(epilogue))?.then_some(y))
}

/// See [`gated_linear`](crate::nn::gated_linear).
pub fn gated_linear(
    x: &Tensor,
    gate: &Tensor,
    factors: &Factors,
    bias: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    let (batch, tokens, columns) = x.dims3()?;
    let y = factors.x().dims();
    let fits = factors.device().is_some()
        && columns % TILE_COLUMNS == 0
        && factors.outputs()? == columns
        && y[..y.len() - 1] == [batch, tokens]
        && [x, gate].iter().all(|t| t.dtype() == DType::BF16)
        && (gate.dims() == [1, columns] || gate.dims() == [batch, columns]);
    if !fits {
        return Ok(None);
    }
    let x = dense(x)?;
    let (gate, gate_stride) = one_row_an_entry(gate)?;
    let at = [address(&x)?, address(&gate)?];
    if at.iter().any(|at| at % 16 != 0) || gate_stride % 8 != 0 {
        return Ok(None);
    }
    let out = typed_output(x.dims(), DType::BF16, x.device())?;
    let epilogue = Gated {
        out: address(&out)?,
        x: at[0],
        gate: at[1],
        gate_stride: gate_stride as i64,
        tokens: tokens as i32,
        columns: columns as i32,
    };
    Ok(run(factors, bias, &Epilogue::Gated(epilogue))?.then_some(out))
}

fn run(factors: &Factors, bias: Option<&Tensor>, epilogue: &Epilogue) -> Result<bool> {
    let Some(device) = factors.device() else {
        return Ok(false);
    };
    match (hopper(&device)?, bias) {
        // SAFETY: the callers have built the epilogue for these factors.
        (Some(hopper), Some(bias)) => unsafe { hopper.run(factors, bias, epilogue) },
        _ => Ok(false),
    }
}

/// Number of columns of q, k and v.
fn head_columns(heads: Heads) -> usize {
    (heads.query + 2 * heads.key) * HEAD_DIM
}

/// The epilogue of a projection to the first of `all` (batch entries, tokens) of `to`, or `None` if
/// the kernel does not support these heads.
fn heads_epilogue(
    projection: &HeadFactors,
    heads: Heads,
    rope: &RopeTable,
    all: [usize; 2],
    to: &HeadsToWrite,
) -> Result<Option<Projected>> {
    let (entries, tokens, _) = projection.factors.x().dims3()?;
    let norms = [&projection.norms.query, &projection.norms.key];
    let tables = [&rope.cos, &rope.sin];
    let fits = entries == all[0]
        && head_columns(heads).is_multiple_of(TILE_COLUMNS)
        && tables.iter().all(|t| {
            t.dims() == [all[1], HEAD_DIM / 2] && t.dtype() == DType::F32 && t.is_contiguous()
        });
    if !fits {
        return Ok(None);
    }
    let [query_weight, key_weight] = [address(norms[0])?, address(norms[1])?];
    let [cos, sin] = [address(tables[0])?, address(tables[1])?];
    let addresses = [query_weight, key_weight, cos, sin];
    if addresses.iter().any(|at| at % 16 != 0) {
        return Ok(None);
    }
    Ok(Some(Projected {
        query_weight,
        key_weight,
        cos,
        sin,
        tokens: tokens as i32,
        all_tokens: all[1] as i32,
        queries: (heads.query * HEAD_DIM) as i32,
        keys: (heads.key * HEAD_DIM) as i32,
        head_columns: head_columns(heads) as i32,
        eps: projection.eps as f32,
        ..epilogue_at(to)?
    }))
}
