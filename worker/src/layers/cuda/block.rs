//! A transformer block's products that end in what follows them, on Hopper.

use candle_core::{CudaDevice, DType, Device, Result, Tensor, D};

use super::hopper::{End, Factors, Gated, Projected, TILE_COLUMNS};
use super::runtime::{address, hopper, one_row_an_entry, typed_output};
use crate::layers::{HeadNorms, Heads, RopeTable};

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

/// See [`project_heads`](crate::layers::project_heads). q, k and v are views of one tensor.
///
/// # Errors
/// The device fails.
pub fn project_heads(
    streams: &[HeadFactors],
    heads: Heads,
    rope: &RopeTable,
) -> Result<Option<(Tensor, Tensor, Tensor)>> {
    let Some(first) = streams.first() else {
        return Ok(None);
    };
    let head_columns = (heads.query + 2 * heads.key) * HEAD_DIM;
    let mut all_tokens = 0;
    for stream in streams {
        if stream.factors.outputs()? != head_columns {
            return Ok(None);
        }
        all_tokens += stream.factors.x().dim(1)?;
    }
    let batch = first.factors.x().dim(0)?;
    let packed = [batch, all_tokens, head_columns];
    let packed = typed_output(&packed, DType::BF16, first.factors.x().device())?;
    let mut offset = 0;
    for stream in streams {
        let Some(mut end) = heads_end(stream, heads, rope, &packed)? else {
            return Ok(None);
        };
        end.offset = offset;
        if !run(&stream.factors, stream.bias, &End::Projected(end))? {
            return Ok(None);
        }
        offset += end.tokens;
    }
    split(&packed, heads).map(Some)
}

/// See [`project_jointly`](crate::layers::project_jointly): q, k and v, and `[B, S, H D + I]`
/// with the MLP's inner activations in its last columns.
///
/// # Errors
/// The device fails.
pub fn project_jointly(
    projection: &HeadFactors,
    heads: Heads,
    rope: &RopeTable,
) -> Result<Option<(Tensor, Tensor, Tensor, Tensor)>> {
    let x = projection.factors.x();
    let (batch, tokens, _) = x.dims3()?;
    let head_columns = (heads.query + 2 * heads.key) * HEAD_DIM;
    let outputs = projection.factors.outputs()?;
    let attended = heads.query * HEAD_DIM;
    if outputs <= head_columns || (outputs - head_columns) % TILE_COLUMNS != 0 {
        return Ok(None);
    }
    let inner = (outputs - head_columns) / 2;
    let new = |columns| typed_output(&[batch, tokens, columns], DType::BF16, x.device());
    let (packed, joint) = (new(head_columns)?, new(attended + inner)?);
    let Some(mut end) = heads_end(projection, heads, rope, &packed)? else {
        return Ok(None);
    };
    end.mlp = address(&joint)? + (attended * DType::BF16.size_in_bytes()) as u64;
    end.mlp_stride = (attended + inner) as i64;
    end.inner = inner as i32;
    match run(&projection.factors, projection.bias, &End::Projected(end))? {
        true => split(&packed, heads).map(|(q, k, v)| Some((q, k, v, joint))),
        false => Ok(None),
    }
}

/// See [`project_swiglu`](crate::layers::project_swiglu).
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

/// See [`gated_linear`](crate::layers::gated_linear).
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
    let x = x.contiguous()?;
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

/// The end of a projection to the tokens of `packed` `[B, all tokens, columns]` from the first
/// on; `None` for heads that the kernel does not take.
fn heads_end(
    projection: &HeadFactors,
    heads: Heads,
    rope: &RopeTable,
    packed: &Tensor,
) -> Result<Option<Projected>> {
    let (batch, all_tokens, head_columns) = packed.dims3()?;
    let (entries, tokens, _) = projection.factors.x().dims3()?;
    let norms = [&projection.norms.query, &projection.norms.key];
    let tables = [&rope.cos, &rope.sin];
    let fits = projection.factors.device().is_some()
        && entries == batch
        && head_columns % TILE_COLUMNS == 0
        && norms
            .iter()
            .all(|t| t.dims() == [HEAD_DIM] && t.dtype() == DType::BF16)
        && tables.iter().all(|t| {
            t.dims() == [all_tokens, HEAD_DIM / 2] && t.dtype() == DType::F32 && t.is_contiguous()
        });
    if !fits {
        return Ok(None);
    }
    let [query_weight, key_weight] = [address(norms[0])?, address(norms[1])?];
    let [cos, sin] = [address(tables[0])?, address(tables[1])?];
    if [query_weight, key_weight, cos, sin]
        .iter()
        .any(|at| at % 16 != 0)
    {
        return Ok(None);
    }
    Ok(Some(Projected {
        heads: address(packed)?,
        query_weight,
        key_weight,
        cos,
        sin,
        tokens: tokens as i32,
        all_tokens: all_tokens as i32,
        queries: (heads.query * HEAD_DIM) as i32,
        keys: (heads.key * HEAD_DIM) as i32,
        head_columns: head_columns as i32,
        eps: projection.eps as f32,
        ..Projected::default()
    }))
}

/// q, k and v `[B, S, heads, D]` as views of `[B, S, columns]`.
fn split(packed: &Tensor, heads: Heads) -> Result<(Tensor, Tensor, Tensor)> {
    let (batch, tokens, columns) = packed.dims3()?;
    let all = packed.reshape((batch, tokens, columns / HEAD_DIM, HEAD_DIM))?;
    let part = |start, count| all.narrow(D::Minus2, start, count);
    Ok((
        part(0, heads.query)?,
        part(heads.query, heads.key)?,
        part(heads.query + heads.key, heads.key)?,
    ))
}
