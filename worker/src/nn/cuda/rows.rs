//! Softmax, embedding lookup, and the mean of magnitudes.

use candle_core::{bail, CudaDevice, DType, Result, Tensor};

use super::address::{address, output, shared_gpu, typed_output};
use super::copy::{concat, dense};
use super::launch::{Arg, Kernel};
use super::layout::{pack, threads_for, THREADS};

/// See [`single_head`](crate::nn::single_head). For heads too wide for cuDNN's fused attention: two
/// products and an in-place softmax, for as many queries at a time as `max_scores` allows.
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
        let scores = dense(&q.narrow(1, start, length)?)?.matmul(&kt)?;
        let at = address(&scores)?;
        let pack = pack(scores.dtype(), &[keys], &[at]);
        let kernel = Kernel {
            family: "rows",
            name: "softmax",
            dtype: scores.dtype(),
            pack,
        };
        let scale = (width as f32).powf(-0.5);
        // SAFETY: the product is new and has this many rows of `keys`.
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
        _ => concat(&pieces.iter().collect::<Vec<_>>(), 1),
    }
}

/// See [`embed`](crate::nn::embed).
pub fn embed(table: &Tensor, ids: &[u32]) -> Result<Option<Tensor>> {
    let Some(device) = shared_gpu(&[table]) else {
        return Ok(None);
    };
    let (rows, width) = table.dims2()?;
    if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
        bail!("the id {id} is outside a table of {rows} rows");
    }
    let table = dense(table)?;
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
    // SAFETY: the ids were checked against the number of rows of the table.
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

/// Elements that one thread block sums up.
const MAGNITUDES: usize = 1 << 14;

/// See [`mean_magnitude`](crate::nn::mean_magnitude). Sums pieces, then their sums, in the same
/// order every time.
pub fn mean_magnitude(x: &Tensor, minus: Option<&Tensor>) -> Result<Option<Tensor>> {
    let both: Vec<&Tensor> = std::iter::once(x).chain(minus).collect();
    let Some(device) = shared_gpu(&both) else {
        return Ok(None);
    };
    if minus.is_some_and(|y| y.dims() != x.dims()) {
        bail!("{x:?} and {minus:?} are not of one shape");
    }
    let (x, minus) = (dense(x)?, minus.map(dense).transpose()?);
    let sums = magnitudes(&device, &x, minus.as_ref(), MAGNITUDES, 1.0)?;
    let mean = 1.0 / x.elem_count() as f32;
    let mean = magnitudes(&device, &sums, None, sums.elem_count(), mean)?;
    mean.reshape(()).map(Some)
}

/// `factor` times the sums of `|x - minus|` over every `width` elements. Both are contiguous and of
/// one shape.
fn magnitudes(
    device: &CudaDevice,
    x: &Tensor,
    minus: Option<&Tensor>,
    width: usize,
    factor: f32,
) -> Result<Tensor> {
    let count = x.elem_count();
    let sums = count.div_ceil(width);
    let out = typed_output(&[sums], DType::F32, x.device())?;
    let at = [address(x)?, minus.map_or(Ok(0), address)?];
    let kernel = Kernel {
        family: "rows",
        name: "magnitudes",
        dtype: x.dtype(),
        pack: pack(x.dtype(), &[count, width], &at),
    };
    // SAFETY: x and minus hold `count` elements, and out holds one per `width` of them.
    unsafe {
        kernel.launch(
            device,
            (sums, 1),
            THREADS,
            &[
                Arg::At(at[0]),
                Arg::At(at[1]),
                Arg::At(address(&out)?),
                Arg::Count(count),
                Arg::Count(width),
                Arg::Real(factor),
            ],
        )?;
    }
    Ok(out)
}
