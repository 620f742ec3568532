//! Tensors as evenly spaced rows, copied where they are not.

use candle_core::{bail, Result, Tensor};

use super::copy::dense;
use super::layout::{rows, Rows};

/// `tensor` itself if its rows are evenly spaced, else a contiguous copy.
pub(super) fn with_rows(tensor: &Tensor) -> Result<(Tensor, Rows)> {
    if let Some(rows) = rows(tensor) {
        return Ok((tensor.clone(), rows));
    }
    let copy = dense(tensor)?;
    match rows(&copy) {
        Some(rows) => Ok((copy, rows)),
        None => bail!("a tensor without dimensions has no rows"),
    }
}

/// `tensor` `[1 or B, W]` and the stride between the rows of two batch entries, which is 0 if all
/// entries share one row.
pub(super) fn one_row_an_entry(tensor: &Tensor) -> Result<(Tensor, usize)> {
    let (tensor, rows) = with_rows(tensor)?;
    let stride = if rows.count == 1 { 0 } else { rows.stride };
    Ok((tensor, stride))
}
