//! Images whose pixels' channels lie together, as cuDNN's bf16 convolutions want them.
//!
//! Such a tensor is still `[B, C, H, W]` to the networks: it is a view of the contiguous
//! `[B, H, W, C]` that the kernels here work on.

use candle_core::{DType, Result, Tensor};

use super::copy::dense;
use super::runtime::{address, output, pack, shared_gpu, typed_output, Arg, Kernel, THREADS};

/// The `[B, H, W, C]` of an image, copied unless it lies so already.
pub(super) fn together(x: &Tensor) -> Result<Tensor> {
    dense(&x.permute((0, 2, 3, 1))?)
}

/// An image `[B, H, W, C]` as the networks see it.
pub(super) fn as_planes(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 3, 1, 2))
}

/// Whether `x` is an image that lies so, and not plane after plane.
pub(super) fn lies_together(x: &Tensor) -> bool {
    x.rank() == 4
        && !x.is_contiguous()
        && x.permute((0, 2, 3, 1))
            .is_ok_and(|last| last.is_contiguous())
}

/// A convolution's weight as its product will read it: changed once, not at every call.
///
/// # Errors
/// The device fails.
pub fn laid_out(weight: Tensor) -> Result<Tensor> {
    match shared_gpu(&[&weight]).is_some() && weight.dtype() == DType::BF16 {
        true => as_planes(&together(&weight)?),
        false => Ok(weight),
    }
}

/// Elements that a block of the group norm takes.
const CHUNK: usize = 32_768;

/// The group norm of an image that [`lies_together`]; `None` where a pixel has more channels
/// than a block can take.
pub(super) fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    silu: bool,
) -> Result<Option<Tensor>> {
    let Some(device) = shared_gpu(&[x, weight, bias]) else {
        return Ok(None);
    };
    let x = together(x)?;
    let (batch, height, width, channels) = x.dims4()?;
    let (weight, bias) = (dense(weight)?, dense(bias)?);
    let y = output(x.dims(), &x)?;
    let at = [address(&x)?, address(&y)?];
    let pack = pack(x.dtype(), &[channels], &at);
    if channels / pack > THREADS || batch > 65_535 {
        return Ok(None);
    }
    let pixels = height * width;
    let chunk = (CHUNK / channels).max(1);
    let chunks = pixels.div_ceil(chunk);
    let floats = |shape: &[usize]| typed_output(shape, DType::F32, x.device());
    let stats = floats(&[batch, groups, chunks, 2])?;
    let moments = floats(&[batch, groups, 2])?;
    let kernel = |name| Kernel {
        family: "channels_last",
        name,
        dtype: x.dtype(),
        pack,
    };
    // SAFETY: x and y hold `batch * pixels` pixels of `channels`, weight and bias an element
    // a channel, stats and moments what the kernels say.
    unsafe {
        kernel("group_norm_stats_last").launch(
            &device,
            (chunks, batch),
            THREADS,
            &[
                Arg::At(at[0]),
                Arg::At(address(&stats)?),
                Arg::Count(pixels),
                Arg::Count(channels),
                Arg::Count(groups),
                Arg::Count(chunk),
            ],
        )?;
        kernel("group_norm_moments_last").launch(
            &device,
            (batch * groups, 1),
            THREADS,
            &[
                Arg::At(address(&stats)?),
                Arg::At(address(&moments)?),
                Arg::Count(pixels),
                Arg::Count(channels / groups),
                Arg::Count(chunk),
                Arg::Count(chunks),
                Arg::Real(eps as f32),
            ],
        )?;
        kernel("group_norm_apply_last").launch(
            &device,
            (chunks, batch),
            THREADS,
            &[
                Arg::At(at[0]),
                Arg::At(address(&moments)?),
                Arg::At(address(&weight)?),
                Arg::At(address(&bias)?),
                Arg::At(at[1]),
                Arg::Count(pixels),
                Arg::Count(channels),
                Arg::Count(groups),
                Arg::Count(chunk),
                Arg::Count(usize::from(silu)),
            ],
        )?;
    }
    as_planes(&y).map(Some)
}

/// Twice the height and width of an image that [`lies_together`].
pub(super) fn upsample_nearest(x: &Tensor) -> Result<Option<Tensor>> {
    let Some(device) = shared_gpu(&[x]) else {
        return Ok(None);
    };
    let x = together(x)?;
    let (batch, height, width, channels) = x.dims4()?;
    let y = output(&[batch, 2 * height, 2 * width, channels], &x)?;
    let at = [address(&x)?, address(&y)?];
    let pack = pack(x.dtype(), &[channels], &at);
    let count = y.elem_count() / pack;
    let kernel = Kernel {
        family: "channels_last",
        name: "upsample_last",
        dtype: x.dtype(),
        pack,
    };
    // SAFETY: y holds `count` packs, four for each of x.
    unsafe {
        kernel.launch(
            &device,
            (count.div_ceil(THREADS), 1),
            THREADS,
            &[
                Arg::At(at[0]),
                Arg::At(at[1]),
                Arg::Count(count),
                Arg::Count(height),
                Arg::Count(width),
                Arg::Count(channels),
            ],
        )?;
    }
    as_planes(&y).map(Some)
}
