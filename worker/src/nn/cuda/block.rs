//! A transformer block's products that end in what follows them, on Hopper.

use candle_core::{CudaDevice, DType, Device, Result, Tensor, D};

use super::attention_fp8::Fp8Heads;
use super::copy::dense;
use super::hopper::{End, Factors, Gated, Projected, TILE_COLUMNS};
use super::runtime::{address, hopper, one_row_an_entry, typed_output};
use crate::nn::block::ReadyHeads;
use crate::nn::{HeadNorms, Heads, QkBounds, RopeTable};

/// Width of the heads that these products norm and turn.
const HEAD_DIM: usize = 128;

/// A packed projection to heads, as [`project_heads`] takes it.
pub struct HeadFactors<'a> {
    /// `x` `[B, S, K]` and the weight.
    pub factors: Factors<'a>,
    /// One number an output.
    pub bias: Option<&'a Tensor>,
    /// Of q and of k.
    pub norms: &'a HeadNorms,
    /// Epsilon of the head norms.
    pub eps: f64,
}

impl HeadFactors<'_> {
    /// The GPU, if it is a Hopper and the heads are what its kernels take.
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
        match self {
            Self::Bf16(x, _) => x,
            Self::Fp8(x, _) => &x.values,
        }
    }

    fn outputs(&self) -> Result<usize> {
        match self {
            Self::Bf16(_, weight) => weight.dim(0),
            Self::Fp8(_, weight) => weight.values.dim(0),
        }
    }

    /// The GPU, if what is multiplied is in bf16 or was.
    fn device(&self) -> Option<CudaDevice> {
        let bf16 = match self {
            Self::Bf16(x, _) => x.dtype() == DType::BF16,
            Self::Fp8(x, _) => x.dtype == DType::BF16,
        };
        match self.x().device() {
            Device::Cuda(device) if bf16 => Some(device.clone()),
            _ => None,
        }
    }
}

/// Heads to be written by projections of `x` `[B, S, K]` to `tokens` in all: in 8-bit floats if
/// there are `bounds` and cuDNN takes them, else bf16 views of one tensor.
fn heads_to_write(
    device: &CudaDevice,
    [batch, tokens]: [usize; 2],
    heads: Heads,
    bounds: Option<QkBounds>,
) -> Result<ReadyHeads> {
    if let Some(bounds) = bounds {
        let sizes = [batch, tokens, HEAD_DIM];
        if let Some(heads) = Fp8Heads::new(device, sizes, heads, bounds)? {
            return Ok(ReadyHeads::Fp8(Box::new(heads)));
        }
    }
    let count = heads.query + 2 * heads.key;
    let shape = [batch, tokens, count, HEAD_DIM];
    let packed = typed_output(&shape, DType::BF16, &Device::Cuda(device.clone()))?;
    let part = |start, count| packed.narrow(D::Minus2, start, count);
    Ok(ReadyHeads::Whole(
        part(0, heads.query)?,
        part(heads.query, heads.key)?,
        part(heads.query + heads.key, heads.key)?,
    ))
}

/// The end of a product that writes there.
fn end_at(heads: &ReadyHeads) -> Result<Projected> {
    let end = Projected::default();
    Ok(match heads {
        ReadyHeads::Whole(q, _, _) => Projected {
            heads: address(q)?,
            ..end
        },
        ReadyHeads::Fp8(heads) => {
            let at = heads.at()?;
            Projected {
                heads: at.v,
                queries8: at.q,
                keys8: at.k,
                largest_value: at.largest_value,
                query_factor: at.q_factor,
                key_factor: at.k_factor,
                ..end
            }
        }
    })
}

/// See [`project_heads`](crate::nn::project_heads).
///
/// # Errors
/// The device fails.
pub(in crate::nn) fn project_heads(
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
        let Some(mut end) = heads_end(stream, heads, rope, all, &to)? else {
            return Ok(None);
        };
        end.offset = offset;
        if !run(&stream.factors, stream.bias, &End::Projected(end))? {
            return Ok(None);
        }
        offset += end.tokens;
    }
    Ok(Some(to))
}

/// See [`project_jointly`](crate::nn::project_jointly): the heads, and `[B, S, H D + I]`
/// with the MLP's inner activations in its last columns.
///
/// # Errors
/// The device fails.
pub(in crate::nn) fn project_jointly(
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
    let Some(mut end) = heads_end(projection, heads, rope, all, &to)? else {
        return Ok(None);
    };
    end.mlp = address(&joint)? + (attended * DType::BF16.size_in_bytes()) as u64;
    end.mlp_stride = (attended + inner) as i64;
    end.inner = inner as i32;
    let done = run(&projection.factors, projection.bias, &End::Projected(end))?;
    Ok(done.then_some((to, joint)))
}

/// See [`project_swiglu`](crate::nn::project_swiglu).
///
/// # Errors
/// The device fails.
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
    let end = Projected {
        mlp: address(&y)?,
        mlp_stride: (outputs / 2) as i64,
        inner: (outputs / 2) as i32,
        tokens: 1,
        ..Projected::default()
    };
    Ok(run(factors, bias, &End::Projected(end))?.then_some(y))
}

/// See [`gated_linear`](crate::nn::gated_linear).
///
/// # Errors
/// The device fails.
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
    let end = Gated {
        out: address(&out)?,
        x: at[0],
        gate: at[1],
        gate_stride: gate_stride as i64,
        tokens: tokens as i32,
        columns: columns as i32,
    };
    Ok(run(factors, bias, &End::Gated(end))?.then_some(out))
}

fn run(factors: &Factors, bias: Option<&Tensor>, end: &End) -> Result<bool> {
    let Some(device) = factors.device() else {
        return Ok(false);
    };
    match (hopper(&device)?, bias) {
        // SAFETY: the callers have made the end for these factors.
        (Some(hopper), Some(bias)) => unsafe { hopper.run(factors, bias, end) },
        _ => Ok(false),
    }
}

/// Columns of q, k and v.
fn head_columns(heads: Heads) -> usize {
    (heads.query + 2 * heads.key) * HEAD_DIM
}

/// The end of a projection to the first of `all` batch entries and tokens of `to`; `None` for
/// heads that the kernel does not take.
fn heads_end(
    projection: &HeadFactors,
    heads: Heads,
    rope: &RopeTable,
    all: [usize; 2],
    to: &ReadyHeads,
) -> Result<Option<Projected>> {
    let (entries, tokens, _) = projection.factors.x().dims3()?;
    let norms = [&projection.norms.query, &projection.norms.key];
    let tables = [&rope.cos, &rope.sin];
    let fits = entries == all[0]
        && head_columns(heads) % TILE_COLUMNS == 0
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
        ..end_at(to)?
    }))
}
