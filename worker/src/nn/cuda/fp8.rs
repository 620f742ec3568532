//! Quantization to rows of 8-bit floats, in one pass over memory.

use candle_core::{CudaDevice, DType, Result, Tensor};

use super::address::{address, shared_gpu, typed_output};
use super::launch::{Arg, Kernel};
use super::layout::{pack, row_grid, threads_up_to, THREADS};
use super::norm::modulated_shape;
use super::rows_of::{one_row_an_entry, with_rows};
use crate::nn::scaled_rows::ScaledRows;

/// Largest number of threads that quantize a row. Each keeps its packs in registers, so a row of up
/// to 16384 bf16 elements is read only once.
const MOST_THREADS: usize = 512;

/// New rows `[.., W]` for a kernel to write.
fn rows_to_write(shape: &[usize], like: &Tensor) -> Result<ScaledRows> {
    let count = shape.iter().product::<usize>() / shape.last().copied().unwrap_or(1).max(1);
    Ok(ScaledRows {
        values: typed_output(shape, DType::F8E4M3, like.device())?,
        scales: typed_output(&[count], DType::F32, like.device())?,
        dtype: like.dtype(),
    })
}

/// A kernel of this family that reads `dtype`, `pack` elements at a time.
fn kernel(name: &'static str, dtype: DType, pack: usize) -> Kernel {
    Kernel {
        family: "fp8",
        name,
        dtype,
        pack,
    }
}

/// See [`quantize_rows`](crate::nn::quantize_rows).
pub fn quantize_rows(x: &Tensor) -> Result<Option<ScaledRows>> {
    let Some(device) = shared_gpu(&[x]) else {
        return Ok(None);
    };
    let (x, from) = with_rows(x)?;
    let rows = rows_to_write(x.dims(), &x)?;
    let at = [address(&x)?, address(&rows.values)?];
    let pack = pack(x.dtype(), &[from.width, from.stride], &at);
    // SAFETY: x and the values hold `from.count` rows of `from.width`, and there is a scale per
    // row.
    unsafe {
        kernel("quantize_rows", x.dtype(), pack).launch(
            &device,
            (from.count, 1),
            threads_up_to(MOST_THREADS, from.width, pack),
            &[
                Arg::At(at[0]),
                Arg::At(at[1]),
                Arg::At(address(&rows.scales)?),
                Arg::Count(from.width),
                Arg::Count(from.stride),
            ],
        )?;
    }
    Ok(Some(rows))
}

/// See [`modulated_layer_norm_fp8`](crate::nn::modulated_layer_norm_fp8). The normalised values are
/// not rounded before they are quantized.
pub fn modulated_layer_norm_fp8(
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
    eps: f64,
) -> Result<Option<ScaledRows>> {
    let shift = shift.to_dtype(x.dtype())?;
    let scale = scale.to_dtype(x.dtype())?;
    let Some(device) = shared_gpu(&[x, &shift, &scale]) else {
        return Ok(None);
    };
    let (batch, tokens, width) = modulated_shape(x, &shift, &scale)?;
    let (x, from) = with_rows(x)?;
    let (shift, shift_stride) = one_row_an_entry(&shift)?;
    let (scale, scale_stride) = one_row_an_entry(&scale)?;
    let rows = rows_to_write(x.dims(), &x)?;
    let at = [
        address(&x)?,
        address(&shift)?,
        address(&scale)?,
        address(&rows.values)?,
    ];
    let strides = [width, from.stride, shift_stride, scale_stride];
    let pack = pack(x.dtype(), &strides, &at);
    // SAFETY: the shapes were checked above and the strides are the tensors'.
    unsafe {
        kernel("modulated_layer_norm_fp8", x.dtype(), pack).launch(
            &device,
            (batch * tokens, 1),
            threads_up_to(MOST_THREADS, width, pack),
            &[
                Arg::At(at[0]),
                Arg::At(at[1]),
                Arg::At(at[2]),
                Arg::At(at[3]),
                Arg::At(address(&rows.scales)?),
                Arg::Count(width),
                Arg::Count(tokens),
                Arg::Count(from.stride),
                Arg::Count(shift_stride),
                Arg::Count(scale_stride),
                Arg::Real(eps as f32),
            ],
        )?;
    }
    Ok(Some(rows))
}

/// Computes `y * row_scales * column_scales + bias` in place for a new contiguous `y` `[rows, W]`,
/// `row_scales` `[rows]`, and `column_scales` and `bias` `[W]`.
pub(super) fn rescale(
    device: &CudaDevice,
    y: &Tensor,
    row_scales: &Tensor,
    column_scales: &Tensor,
    bias: Option<&Tensor>,
) -> Result<()> {
    let (count, width) = y.dims2()?;
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias_at = bias.as_ref().map_or(Ok(0), address)?;
    let at = [address(y)?, bias_at];
    let pack = pack(y.dtype(), &[width], &at);
    // SAFETY: y is new and holds `count` rows of `width`; the others hold one element per row or
    // per column.
    unsafe {
        kernel("rescale", y.dtype(), pack).launch(
            device,
            row_grid(count, width, pack),
            THREADS,
            &[
                Arg::At(at[0]),
                Arg::At(address(row_scales)?),
                Arg::At(address(column_scales)?),
                Arg::At(at[1]),
                Arg::Count(count),
                Arg::Count(width),
            ],
        )
    }
}
