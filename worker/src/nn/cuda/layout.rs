//! How a tensor's elements are divided among a kernel's threads.

use candle_core::{DType, Tensor};

/// Threads per block, unless a row has fewer elements.
pub(super) const THREADS: usize = 256;

/// Number of elements that a 16-byte access moves if all `counts` (lengths, strides) and
/// `addresses` are aligned to it, else 1.
pub(super) fn pack(dtype: DType, counts: &[usize], addresses: &[u64]) -> usize {
    let wide = 16 / dtype.size_in_bytes();
    let fits = counts.iter().all(|count| count % wide == 0)
        && addresses.iter().all(|address| address % 16 == 0);
    if fits {
        wide
    } else {
        1
    }
}

/// Threads for a block that processes `width` elements, `pack` at a time: at most [`THREADS`], with
/// the packs divided evenly among them.
pub(super) fn threads_for(width: usize, pack: usize) -> usize {
    threads_up_to(THREADS, width, pack)
}

/// [`threads_for`] with the limit `most` instead of [`THREADS`].
pub(super) fn threads_up_to(most: usize, width: usize, pack: usize) -> usize {
    let packs = width.div_ceil(pack).max(1);
    let rounds = packs.div_ceil(most);
    packs.div_ceil(rounds).next_multiple_of(32)
}

/// Blocks of an elementwise kernel over `rows` of `width` elements. CUDA limits y to 65535; the
/// kernel loops over the rows beyond.
pub(super) fn row_grid(rows: usize, width: usize, pack: usize) -> (usize, usize) {
    (width.div_ceil(pack * THREADS), rows.min(65_535))
}

/// Evenly spaced rows of a tensor whose last dimension is dense, in elements.
pub(super) struct Rows {
    pub count: usize,
    pub width: usize,
    pub stride: usize,
}

/// `tensor` as evenly spaced rows, or `None` if its layout has none.
pub(super) fn rows(tensor: &Tensor) -> Option<Rows> {
    let (dims, strides) = (tensor.dims(), tensor.stride());
    let (&width, outer) = dims.split_last()?;
    if strides.last() != Some(&1) && width != 1 {
        return None;
    }
    let mut count = 1;
    let mut stride = width;
    // From the innermost outer dimension outwards: each must continue the previous one.
    for (i, &dim) in outer.iter().enumerate().rev() {
        if dim == 1 {
            continue;
        }
        if count == 1 {
            stride = strides[i];
        } else if strides[i] != stride * count {
            return None;
        }
        count *= dim;
    }
    Some(Rows {
        count,
        width,
        stride,
    })
}
