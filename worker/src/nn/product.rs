//! The plain matrix product of a linear layer.

use candle_core::{Result, Tensor};

use super::operation::check_cancelled;

/// Largest number of multiplications and additions between two checks for a cancel. About half a
/// second on two CPU cores; a larger product is computed a few rows at a time.
const MAX_OPERATIONS: usize = 1 << 35;

/// `x W^T + b` of tensors of one type: `x` `[.., in]`, `weight` `[out, in]`, `bias` `[out]`.
///
/// # Errors
/// The shapes do not fit, or the operation was cancelled.
pub(super) fn multiply(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out_dim, in_dim) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    let rows = x.elem_count() / in_dim;
    let (x, weight) = (x.reshape((rows, in_dim))?, weight.t()?);
    let most = (MAX_OPERATIONS / (2 * in_dim * out_dim)).max(1);
    let y = match rows <= most {
        true => {
            check_cancelled()?;
            x.matmul(&weight)?
        }
        false => {
            let pieces = (0..rows).step_by(most).map(|start| {
                check_cancelled()?;
                x.narrow(0, start, most.min(rows - start))?.matmul(&weight)
            });
            Tensor::cat(&pieces.collect::<Result<Vec<_>>>()?, 0)?
        }
    };
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    if let Some(last) = shape.last_mut() {
        *last = out_dim;
    }
    y.reshape(shape)
}
