//! RMSNorm and rotation of every head in one kernel that reads the packed projection.

use candle_core::{bail, DType, Result, Tensor};

use super::address::{address, output, shared_gpu};
use super::copy::dense;
use super::launch::{Arg, Kernel};
use super::layout::{pack, threads_for, THREADS};
use crate::nn::heads::{HeadNorms, Heads, Pairs};

/// See [`qk_norm_rope`](crate::nn::qk_norm_rope). Each projection may be columns of a wider tensor;
/// `cos` and `sin` are `[sum of S, D/2]` f32. With a single projection, v is a view of it where
/// possible, which saves a copy.
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
    let (cos, sin) = (dense(cos)?, dense(sin)?);
    let new = |heads: usize| output(&[batch, tokens, heads, head_dim], first);
    let (q, k) = (new(heads.query)?, new(heads.key)?);
    let view = match projections.len() {
        1 => values(first, heads, head_dim)?,
        _ => None,
    };
    let (v, copied) = match view {
        Some(view) => (view, None),
        None => {
            let v = new(heads.key)?;
            (v.clone(), Some(v))
        }
    };
    let joint = Joint { q, k, v: copied };
    let mut offset = 0;
    for (qkv, norms) in projections {
        part(qkv, norms, pairs, (&cos, &sin), &joint, offset, eps)?;
        offset += qkv.dim(1)?;
    }
    Ok(Some((joint.q, joint.k, v)))
}

/// The values in a packed projection as a view `[B, S, G, D]`, or `None` if its columns do not
/// divide into heads.
fn values(qkv: &Tensor, heads: Heads, head_dim: usize) -> Result<Option<Tensor>> {
    let (batch, tokens, columns) = qkv.dims3()?;
    if !qkv.is_contiguous() || columns % head_dim != 0 {
        return Ok(None);
    }
    let all = qkv.reshape((batch, tokens, columns / head_dim, head_dim))?;
    all.narrow(2, heads.query + heads.key, heads.key).map(Some)
}

/// The results for all projections' tokens, each `[B, sum of S, heads, D]`; v only if it is copied.
struct Joint {
    q: Tensor,
    k: Tensor,
    v: Option<Tensor>,
}

/// Writes one projection to its tokens of the joint tensors.
fn part(
    qkv: &Tensor,
    norms: &HeadNorms,
    pairs: Pairs,
    (cos, sin): (&Tensor, &Tensor),
    joint: &Joint,
    offset: usize,
    eps: f64,
) -> Result<()> {
    let (batch, all_tokens, heads, head_dim) = joint.q.dims4()?;
    let kv_heads = joint.k.dim(2)?;
    let weight = |t: &Tensor| dense(&t.to_dtype(qkv.dtype())?);
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
    let v = joint.v.as_ref().map(address).transpose()?;
    let at = [
        address(&qkv)?,
        address(&query)?,
        address(&key)?,
        address(&joint.q)?,
        address(&joint.k)?,
        // A null address tells the kernel not to copy the values.
        v.unwrap_or(0),
    ];
    // Moves 16 bytes at a time if a warp's lanes divide evenly among heads.
    let lanes = head_dim / 8;
    let packed = pairs == Pairs::Neighbours
        && qkv.dtype() == DType::BF16
        && lanes.is_power_of_two()
        && lanes <= 32
        && pack(
            qkv.dtype(),
            &[head_dim, qkv.stride()[0], qkv.stride()[1]],
            &at,
        ) == 8;
    let table_row = (offset * (head_dim / 2) * DType::F32.size_in_bytes()) as u64;
    let kernel = Kernel {
        family: "rope",
        name: match pairs {
            Pairs::Neighbours => "qk_norm_rope_neighbours",
            Pairs::Halves => "qk_norm_rope_halves",
        },
        dtype: qkv.dtype(),
        pack: if packed { 8 } else { 1 },
    };
    let threads = match packed {
        true => threads_for((heads + kv_heads) * head_dim, 8),
        false => THREADS,
    };
    // SAFETY: the caller has checked the shapes; `offset` plus the projection's tokens is within
    // the joint tensors and the tables.
    unsafe {
        kernel.launch(
            &device,
            (qkv.dim(1)?, batch),
            threads,
            &[
                Arg::At(at[0]),
                Arg::At(at[1]),
                Arg::At(at[2]),
                Arg::At(address(cos)? + table_row),
                Arg::At(address(sin)? + table_row),
                Arg::At(at[3]),
                Arg::At(at[4]),
                Arg::At(at[5]),
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
