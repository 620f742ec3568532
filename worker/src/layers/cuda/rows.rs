//! Softmax, and the rows of a table.

use candle_core::{bail, Result, Tensor};

use super::runtime::{address, output, pack, shared_gpu, threads_for, Arg, Kernel};

/// See [`single_head`](crate::layers::single_head): for heads too wide for
/// cuDNN's fused attention. Two products around a softmax in place, over as many
/// queries at a time as `max_scores` allows.
///
/// # Errors
/// The shapes do not fit, or the device fails.
pub fn single_head(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    max_scores: usize,
) -> Result<Option<Tensor>> {
    let Some(device) = shared_gpu(&[q, k, v]) else {
        return Ok(None);
    };
    let (batch, queries, width) = q.dims3()?;
    let keys = k.dim(1)?;
    let kt = k.transpose(1, 2)?;
    let rows = (max_scores / (batch * keys)).clamp(1, queries);
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < queries {
        let length = rows.min(queries - start);
        let scores = q.narrow(1, start, length)?.contiguous()?.matmul(&kt)?;
        let at = address(&scores)?;
        let pack = pack(scores.dtype(), &[keys], &[at]);
        let kernel = Kernel {
            family: "rows",
            name: "softmax",
            dtype: scores.dtype(),
            pack,
        };
        let scale = (width as f32).powf(-0.5);
        // SAFETY: the fresh product has this many rows of `keys`, and nobody
        // else has it yet.
        unsafe {
            kernel.launch(
                &device,
                (batch * length, 1),
                threads_for(keys, pack),
                &[Arg::At(at), Arg::Count(keys), Arg::Real(scale)],
            )?;
        }
        pieces.push(scores.matmul(v)?);
        start += length;
    }
    match pieces.len() {
        1 => Ok(pieces.pop()),
        _ => Tensor::cat(&pieces, 1).map(Some),
    }
}

/// See [`embed`](crate::layers::embed).
///
/// # Errors
/// An id is outside the table, or the device fails.
pub fn embed(table: &Tensor, ids: &[u32]) -> Result<Option<Tensor>> {
    let Some(device) = shared_gpu(&[table]) else {
        return Ok(None);
    };
    let (rows, width) = table.dims2()?;
    if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
        bail!("the id {id} is outside a table of {rows} rows");
    }
    let table = table.contiguous()?;
    let ids = Tensor::new(ids, table.device())?;
    let out = output(&[ids.elem_count(), width], &table)?;
    let at = [address(&table)?, address(&ids)?, address(&out)?];
    let pack = pack(table.dtype(), &[width], &[at[0], at[2]]);
    let kernel = Kernel {
        family: "rows",
        name: "gather",
        dtype: table.dtype(),
        pack,
    };
    // SAFETY: the ids were checked against the table's rows.
    unsafe {
        kernel.launch(
            &device,
            (ids.elem_count(), 1),
            threads_for(width, pack),
            &[
                Arg::At(at[0]),
                Arg::At(at[1]),
                Arg::At(at[2]),
                Arg::Count(width),
            ],
        )?;
    }
    Ok(Some(out))
}
