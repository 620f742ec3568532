//! RMSNorm of every head and its rotation in one kernel, read straight from the
//! packed projection.

use candle_core::{bail, DType, Result, Tensor};

use super::super::rope::{HeadNorms, Heads, Pairs};
use super::runtime::{address, output, shared_gpu, Arg, Kernel, THREADS};

/// See [`qk_norm_rope`](crate::layers::qk_norm_rope): each projection may be
/// columns of a wider tensor, `cos` and `sin` are `[sum of S, D/2]` f32.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn qk_norm_rope(
    projections: &[(&Tensor, &HeadNorms)],
    heads: Heads,
    pairs: Pairs,
    (cos, sin): (&Tensor, &Tensor),
    eps: f64,
) -> Result<Option<(Tensor, Tensor, Tensor)>> {
    let Some(&(first, norms)) = projections.first() else {
        return Ok(None);
    };
    let all: Vec<&Tensor> = projections.iter().map(|(qkv, _)| *qkv).collect();
    let head_dim = norms.query.dim(0)?;
    if shared_gpu(&all).is_none() || head_dim % 2 != 0 {
        return Ok(None);
    }
    let batch = first.dim(0)?;
    let mut tokens = 0;
    for qkv in &all {
        let (b, s, columns) = qkv.dims3()?;
        if b != batch || columns < (heads.query + 2 * heads.key) * head_dim {
            bail!("a projection {:?} does not hold q, k and v", qkv.dims());
        }
        tokens += s;
    }
    for table in [cos, sin] {
        if table.dims() != [tokens, head_dim / 2] || table.dtype() != DType::F32 {
            bail!("a rotation table {table:?} is not for {tokens} tokens");
        }
    }
    let (cos, sin) = (cos.contiguous()?, sin.contiguous()?);
    let new = |heads: usize| output(&[batch, tokens, heads, head_dim], first);
    let joint = [new(heads.query)?, new(heads.key)?, new(heads.key)?];
    let mut offset = 0;
    for (qkv, norms) in projections {
        part(qkv, norms, pairs, (&cos, &sin), &joint, offset, eps)?;
        offset += qkv.dim(1)?;
    }
    let [q, k, v] = joint;
    Ok(Some((q, k, v)))
}

/// One projection into its tokens of the joint tensors.
fn part(
    qkv: &Tensor,
    norms: &HeadNorms,
    pairs: Pairs,
    (cos, sin): (&Tensor, &Tensor),
    joint: &[Tensor; 3],
    offset: usize,
    eps: f64,
) -> Result<()> {
    let (batch, all_tokens, heads, head_dim) = joint[0].dims4()?;
    let kv_heads = joint[1].dim(2)?;
    let weight = |t: &Tensor| t.to_dtype(qkv.dtype())?.contiguous();
    let (query, key) = (weight(&norms.query)?, weight(&norms.key)?);
    // The kernel moves neighbouring pairs.
    let even = qkv.stride()[2] == 1 && qkv.stride()[..2].iter().all(|s| s % 2 == 0);
    let pair = 2 * qkv.dtype().size_in_bytes() as u64;
    let qkv = match even && address(qkv)? % pair == 0 {
        true => qkv.clone(),
        false => qkv.force_contiguous()?,
    };
    let Some(device) = shared_gpu(&[&qkv, &query, &key]) else {
        bail!("the head norms are on another device than the projection");
    };
    let tokens = qkv.dim(1)?;
    let table_row = (offset * (head_dim / 2) * DType::F32.size_in_bytes()) as u64;
    let kernel = Kernel {
        family: "rope",
        name: match pairs {
            Pairs::Neighbours => "qk_norm_rope_neighbours",
            Pairs::Halves => "qk_norm_rope_halves",
        },
        dtype: qkv.dtype(),
        pack: 1,
    };
    let warps = batch * tokens * (heads + 2 * kv_heads);
    // SAFETY: shapes were checked by the caller; `offset + tokens` lies within
    // the joint tensors and the tables.
    unsafe {
        kernel.launch(
            &device,
            (warps.div_ceil(THREADS / 32), 1),
            THREADS,
            &[
                Arg::At(address(&qkv)?),
                Arg::At(address(&query)?),
                Arg::At(address(&key)?),
                Arg::At(address(cos)? + table_row),
                Arg::At(address(sin)? + table_row),
                Arg::At(address(&joint[0])?),
                Arg::At(address(&joint[1])?),
                Arg::At(address(&joint[2])?),
                Arg::Count(batch),
                Arg::Count(tokens),
                Arg::Count(heads),
                Arg::Count(kv_heads),
                Arg::Count(head_dim),
                Arg::Count(qkv.stride()[0]),
                Arg::Count(qkv.stride()[1]),
                Arg::Count(all_tokens),
                Arg::Count(offset),
                Arg::Real(eps as f32),
            ],
        )
    }
}
