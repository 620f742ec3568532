//! Normalisations, in one pass over memory where possible.

use candle_core::{DType, Result, Tensor};

use super::address::{address, output, shared_gpu};
use super::channels_last::{self, is_channels_last};
use super::copy::dense;
use super::launch::{Arg, Kernel};
use super::layout::{pack, threads_for, THREADS};
use super::rows_of::{one_row_an_entry, with_rows};

/// See [`rms_norm`](crate::nn::rms_norm).
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Option<Tensor>> {
    let weight = weight.to_dtype(x.dtype())?;
    let Some(device) = shared_gpu(&[x, &weight]) else {
        return Ok(None);
    };
    let (x, weight) = (dense(x)?, dense(&weight)?);
    let width = weight.dim(0)?;
    if x.dims().last() != Some(&width) {
        candle_core::bail!("an RMS norm of width {width} does not fit {:?}", x.dims());
    }
    let y = output(x.dims(), &x)?;
    let at = [address(&x)?, address(&weight)?, address(&y)?];
    let pack = pack(x.dtype(), &[width], &at);
    let kernel = Kernel {
        family: "norm",
        name: "rms_norm",
        dtype: x.dtype(),
        pack,
    };
    let rows = x.elem_count() / width;
    // SAFETY: x and y hold `rows` rows of `width`, and weight holds one.
    unsafe {
        kernel.launch(
            &device,
            (rows, 1),
            threads_for(width, pack),
            &[
                Arg::At(at[0]),
                Arg::At(at[1]),
                Arg::At(at[2]),
                Arg::Count(width),
                Arg::Real(eps as f32),
            ],
        )?;
    }
    Ok(Some(y))
}

/// See [`modulated_layer_norm`](crate::nn::modulated_layer_norm).
pub fn modulated_layer_norm(
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
    eps: f64,
) -> Result<Option<Tensor>> {
    let shift = shift.to_dtype(x.dtype())?;
    let scale = scale.to_dtype(x.dtype())?;
    let Some(device) = shared_gpu(&[x, &shift, &scale]) else {
        return Ok(None);
    };
    let (batch, tokens, width) = modulated_shape(x, &shift, &scale)?;
    let (x, rows) = with_rows(x)?;
    let (shift, shift_stride) = one_row_an_entry(&shift)?;
    let (scale, scale_stride) = one_row_an_entry(&scale)?;
    let y = output(&[batch, tokens, width], &x)?;
    let at = [
        address(&x)?,
        address(&shift)?,
        address(&scale)?,
        address(&y)?,
    ];
    let pack = pack(
        x.dtype(),
        &[width, rows.stride, shift_stride, scale_stride],
        &at,
    );
    let kernel = Kernel {
        family: "norm",
        name: "modulated_layer_norm",
        dtype: x.dtype(),
        pack,
    };
    // SAFETY: the shapes were checked above, and the strides are those of the tensors.
    unsafe {
        kernel.launch(
            &device,
            ((batch * tokens).div_ceil(ROWS_PER_BLOCK), 1),
            ROWS_PER_BLOCK * WARP,
            &[
                Arg::At(at[0]),
                Arg::At(at[1]),
                Arg::At(at[2]),
                Arg::At(at[3]),
                Arg::Count(batch * tokens),
                Arg::Count(width),
                Arg::Count(tokens),
                Arg::Count(rows.stride),
                Arg::Count(shift_stride),
                Arg::Count(scale_stride),
                Arg::Real(eps as f32),
            ],
        )?;
    }
    Ok(Some(y))
}

/// Batch, tokens and width of `x`, after a check that shift and scale `[1 or B, W]` fit.
pub(super) fn modulated_shape(
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
) -> Result<(usize, usize, usize)> {
    let (batch, tokens, width) = x.dims3()?;
    let fits = |t: &Tensor| t.dims() == [batch, width] || t.dims() == [1, width];
    if !fits(shift) || !fits(scale) {
        candle_core::bail!(
            "a modulation of {:?} and {:?} does not fit {:?}",
            shift.dims(),
            scale.dims(),
            x.dims()
        );
    }
    Ok((batch, tokens, width))
}

/// Threads of a warp.
const WARP: usize = 32;

/// Rows of a modulated norm per thread block, one warp each. Few, because each warp uses many
/// registers.
const ROWS_PER_BLOCK: usize = 4;

/// Elements of a group that one thread block processes.
const CHUNK: usize = 16_384;

/// See [`group_norm`](crate::nn::group_norm).
pub fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    silu: bool,
) -> Result<Option<Tensor>> {
    let weight = dense(&weight.to_dtype(x.dtype())?)?;
    let bias = dense(&bias.to_dtype(x.dtype())?)?;
    let Some(device) = shared_gpu(&[x, &weight, &bias]) else {
        return Ok(None);
    };
    let (batch, channels, height, width) = x.dims4()?;
    let all_groups = batch * groups;
    if weight.dims() != [channels] || bias.dims() != [channels] || channels % groups != 0 {
        candle_core::bail!("a group norm does not fit {:?}", x.dims());
    }
    if all_groups > 65_535 {
        return Ok(None);
    }
    if is_channels_last(x) {
        if let Some(y) = channels_last::group_norm(x, [&weight, &bias], groups, eps, silu)? {
            return Ok(Some(y));
        }
    }
    let x = dense(x)?;
    let pixels = height * width;
    let size = channels / groups * pixels;
    let chunks = size.div_ceil(CHUNK);
    // SAFETY: the first kernel writes all elements before the second reads them.
    let stats = unsafe { Tensor::empty((all_groups, chunks, 2), DType::F32, x.device())? };
    let y = output(x.dims(), &x)?;
    let at = [address(&x)?, address(&y)?];
    let kernel = |name| Kernel {
        family: "group_norm",
        name,
        dtype: x.dtype(),
        // A pack must not cross from one channel to the next.
        pack: pack(x.dtype(), &[pixels], &at),
    };
    // SAFETY: x and y hold `all_groups` groups of `size` elements, stats a pair per chunk of each,
    // weight and bias one element per channel.
    unsafe {
        kernel("group_norm_stats").launch(
            &device,
            (chunks, all_groups),
            THREADS,
            &[
                Arg::At(at[0]),
                Arg::At(address(&stats)?),
                Arg::Count(size),
                Arg::Count(CHUNK),
            ],
        )?;
        kernel("group_norm_apply").launch(
            &device,
            (chunks, all_groups),
            THREADS,
            &[
                Arg::At(at[0]),
                Arg::At(address(&stats)?),
                Arg::At(address(&weight)?),
                Arg::At(address(&bias)?),
                Arg::At(at[1]),
                Arg::Count(size),
                Arg::Count(CHUNK),
                Arg::Count(pixels),
                Arg::Count(groups),
                Arg::Count(usize::from(silu)),
                Arg::Real(eps as f32),
            ],
        )?;
    }
    Ok(Some(y))
}
