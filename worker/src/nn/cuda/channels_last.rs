//! Images whose pixels' channels lie together, as cuDNN's bf16 convolutions want them.
//!
//! Such a tensor is still `[B, C, H, W]` to the networks: it is a view of the contiguous
//! `[B, H, W, C]` that the kernels here work on.

use candle_core::{bail, CudaDevice, DType, Result, Tensor};

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

/// An image as the group norm's kernels take it.
struct Laid {
    device: CudaDevice,
    /// `[B, H, W, C]`.
    x: Tensor,
    batch: usize,
    pixels: usize,
    channels: usize,
    /// Pixels that a block takes.
    chunk: usize,
    pack: usize,
}

impl Laid {
    /// `None` where a pixel has more channels than a block can take.
    fn of(x: &Tensor) -> Result<Option<Self>> {
        let Some(device) = shared_gpu(&[x]) else {
            return Ok(None);
        };
        let x = together(x)?;
        let (batch, height, width, channels) = x.dims4()?;
        let pack = pack(x.dtype(), &[channels], &[address(&x)?]);
        if channels / pack > THREADS || batch > 65_535 {
            return Ok(None);
        }
        Ok(Some(Self {
            device,
            batch,
            pixels: height * width,
            channels,
            chunk: (CHUNK / channels).max(1),
            pack,
            x,
        }))
    }

    fn chunks(&self) -> usize {
        self.pixels.div_ceil(self.chunk)
    }

    fn kernel(&self, name: &'static str) -> Kernel {
        Kernel {
            family: "channels_last",
            name,
            dtype: self.x.dtype(),
            pack: self.pack,
        }
    }

    /// `[B, groups, 2]`: each group's mean, and what its deviations are multiplied by.
    fn moments(&self, groups: usize, eps: f64) -> Result<Tensor> {
        let floats = |shape: &[usize]| typed_output(shape, DType::F32, self.x.device());
        let stats = floats(&[self.batch, groups, self.chunks(), 2])?;
        let moments = floats(&[self.batch, groups, 2])?;
        // SAFETY: x holds `batch * pixels` pixels of `channels`, stats and moments what the
        // kernels say.
        unsafe {
            self.kernel("group_norm_stats_last").launch(
                &self.device,
                (self.chunks(), self.batch),
                THREADS,
                &[
                    Arg::At(address(&self.x)?),
                    Arg::At(address(&stats)?),
                    Arg::Count(self.pixels),
                    Arg::Count(self.channels),
                    Arg::Count(groups),
                    Arg::Count(self.chunk),
                ],
            )?;
            self.kernel("group_norm_moments_last").launch(
                &self.device,
                (self.batch * groups, 1),
                THREADS,
                &[
                    Arg::At(address(&stats)?),
                    Arg::At(address(&moments)?),
                    Arg::Count(self.pixels),
                    Arg::Count(self.channels / groups),
                    Arg::Count(self.chunk),
                    Arg::Count(self.chunks()),
                    Arg::Real(eps as f32),
                ],
            )?;
        }
        Ok(moments)
    }

    /// The norm by [`moments`](Self::moments), as an image that [`lies_together`].
    fn normed(&self, moments: &Tensor, affine: [&Tensor; 2], silu: bool) -> Result<Tensor> {
        let [weight, bias] = [dense(affine[0])?, dense(affine[1])?];
        let y = output(self.x.dims(), &self.x)?;
        // SAFETY: x and y hold `batch * pixels` pixels of `channels`, weight and bias an element
        // a channel, moments two numbers a group.
        unsafe {
            self.kernel("group_norm_apply_last").launch(
                &self.device,
                (self.chunks(), self.batch),
                THREADS,
                &[
                    Arg::At(address(&self.x)?),
                    Arg::At(address(moments)?),
                    Arg::At(address(&weight)?),
                    Arg::At(address(&bias)?),
                    Arg::At(address(&y)?),
                    Arg::Count(self.pixels),
                    Arg::Count(self.channels),
                    Arg::Count(moments.dim(1)?),
                    Arg::Count(self.chunk),
                    Arg::Count(usize::from(silu)),
                ],
            )?;
        }
        as_planes(&y)
    }
}

/// The group norm of an image that [`lies_together`]; `None` where a pixel has more channels
/// than a block can take.
pub(super) fn group_norm(
    x: &Tensor,
    affine: [&Tensor; 2],
    groups: usize,
    eps: f64,
    silu: bool,
) -> Result<Option<Tensor>> {
    let Some(laid) = Laid::of(x)? else {
        return Ok(None);
    };
    let moments = laid.moments(groups, eps)?;
    laid.normed(&moments, affine, silu).map(Some)
}

/// What a group norm takes from an image, `[B, groups, 2]`: each group's mean, and what its
/// deviations are multiplied by; `None` as [`group_norm`].
///
/// # Errors
/// The device fails.
pub fn group_moments(x: &Tensor, groups: usize, eps: f64) -> Result<Option<Tensor>> {
    if !lies_together(x) || x.dim(1)? % groups != 0 {
        return Ok(None);
    }
    let laid = Laid::of(x)?;
    laid.map(|laid| laid.moments(groups, eps)).transpose()
}

/// A group norm by [`group_moments`]; `None` as [`group_norm`].
///
/// # Errors
/// The device fails.
pub fn group_norm_by(
    x: &Tensor,
    moments: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    silu: bool,
) -> Result<Option<Tensor>> {
    if !lies_together(x) || shared_gpu(&[x, weight, bias]).is_none() {
        return Ok(None);
    }
    let (batch, channels, _, _) = x.dims4()?;
    let (entries, groups, _) = moments.dims3()?;
    let fits = |t: &Tensor| t.dims() == [channels];
    if entries != batch || channels % groups != 0 || !fits(weight) || !fits(bias) {
        bail!("a group norm does not fit {:?}", x.dims());
    }
    let laid = Laid::of(x)?;
    laid.map(|laid| laid.normed(moments, [weight, bias], silu))
        .transpose()
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
