//! The elementwise operations of a transformer block, in one pass over memory each.

use candle_core::{Result, Tensor};

use super::address::{address, output, shared_gpu};
use super::copy::dense;
use super::launch::{Arg, Kernel};
use super::layout::{pack, row_grid, rows, THREADS};
use super::rows_of::{one_row_an_entry, with_rows};

/// See [`swiglu`](crate::nn::swiglu).
pub fn swiglu(up_gate: &Tensor) -> Result<Option<Tensor>> {
    if shared_gpu(&[up_gate]).is_none() {
        return Ok(None);
    }
    let mut shape = up_gate.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last /= 2;
    }
    let out = output(&shape, up_gate)?;
    swiglu_into(up_gate, &out)?;
    Ok(Some(out))
}

/// Writes [`swiglu`] into `out`, whose rows may lie in a wider tensor.
pub(super) fn swiglu_into(up_gate: &Tensor, out: &Tensor) -> Result<()> {
    let (up_gate, from) = with_rows(up_gate)?;
    let inner = from.width / 2;
    let (Some(device), Some(to)) = (shared_gpu(&[&up_gate, out]), rows(out)) else {
        candle_core::bail!("the output of swiglu has another type, device or layout");
    };
    if from.width % 2 != 0 || to.width != inner || to.count != from.count {
        candle_core::bail!(
            "swiglu of {:?} does not fit {:?}",
            up_gate.dims(),
            out.dims()
        );
    }
    let at = [address(&up_gate)?, address(out)?];
    let pack = pack(up_gate.dtype(), &[inner, from.stride, to.stride], &at);
    let kernel = Kernel {
        family: "elementwise",
        name: "swiglu",
        dtype: up_gate.dtype(),
        pack,
    };
    // SAFETY: both hold `from.count` rows, of `2 * inner` and of `inner` elements.
    unsafe {
        kernel.launch(
            &device,
            row_grid(from.count, inner, pack),
            THREADS,
            &[
                Arg::At(at[0]),
                Arg::At(at[1]),
                Arg::Count(from.count),
                Arg::Count(inner),
                Arg::Count(from.stride),
                Arg::Count(to.stride),
            ],
        )
    }
}

/// See [`gated_residual`](crate::nn::gated_residual).
pub fn gated_residual(x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
    let Some(device) = shared_gpu(&[x, gate, y]) else {
        return Ok(None);
    };
    let (batch, tokens, width) = x.dims3()?;
    let gates = gate.dims();
    if y.dims() != x.dims() || (gates != [batch, width] && gates != [1, width]) {
        candle_core::bail!(
            "a gate of {:?} and {:?} do not fit {:?}",
            gate.dims(),
            y.dims(),
            x.dims()
        );
    }
    let (x, y) = (dense(x)?, dense(y)?);
    let (gate, gate_stride) = one_row_an_entry(gate)?;
    let out = output(x.dims(), &x)?;
    let at = [address(&x)?, address(&gate)?, address(&y)?, address(&out)?];
    let pack = pack(x.dtype(), &[width, gate_stride], &at);
    let kernel = Kernel {
        family: "elementwise",
        name: "gated_residual",
        dtype: x.dtype(),
        pack,
    };
    // SAFETY: the shapes were checked above.
    unsafe {
        kernel.launch(
            &device,
            row_grid(batch * tokens, width, pack),
            THREADS,
            &[
                Arg::At(at[0]),
                Arg::At(at[1]),
                Arg::At(at[2]),
                Arg::At(at[3]),
                Arg::Count(batch * tokens),
                Arg::Count(width),
                Arg::Count(tokens),
                Arg::Count(gate_stride),
            ],
        )?;
    }
    Ok(Some(out))
}
