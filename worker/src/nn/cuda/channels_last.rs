//! Images in channels-last memory layout, which cuDNN's bf16 convolutions need.
//!
//! To the networks, such a tensor is still `[B, C, H, W]`: it is a view of the contiguous
//! `[B, H, W, C]` that the kernels here process.

use candle_core::{bail, CudaDevice, DType, Result, Tensor};

use super::address::{address, output, shared_gpu, typed_output};
use super::copy::dense;
use super::launch::{Arg, Kernel};
use super::layout::{pack, THREADS};

/// An image as contiguous `[B, H, W, C]`, copied unless it already is channels-last.
pub(super) fn to_channels_last(x: &Tensor) -> Result<Tensor> {
    dense(&x.permute((0, 2, 3, 1))?)
}

/// The view `[B, C, H, W]` of an image `[B, H, W, C]`.
pub(super) fn as_channels_first(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 3, 1, 2))
}

/// Whether `x` is an image in channels-last layout.
pub(super) fn is_channels_last(x: &Tensor) -> bool {
    x.rank() == 4
        && !x.is_contiguous()
        && x.permute((0, 2, 3, 1))
            .is_ok_and(|last| last.is_contiguous())
}

/// A convolution's weight in channels-last layout, converted once instead of at every call; `None`
/// where cuDNN reads it as it is.
pub fn conv_weight(weight: &Tensor) -> Result<Option<Tensor>> {
    match shared_gpu(&[weight]).is_some() && weight.dtype() == DType::BF16 {
        true => as_channels_first(&to_channels_last(weight)?).map(Some),
        false => Ok(None),
    }
}

/// Elements that one thread block of the group norm processes.
const CHUNK: usize = 32_768;

/// An image with its sizes as the group norm's kernels need them.
struct ChannelsLast {
    device: CudaDevice,
    /// `[B, H, W, C]`.
    x: Tensor,
    batch: usize,
    pixels: usize,
    channels: usize,
    /// Pixels that one thread block processes.
    chunk: usize,
    pack: usize,
}

impl ChannelsLast {
    /// Returns `None` if a pixel has more channels than a thread block supports.
    fn of(x: &Tensor) -> Result<Option<Self>> {
        let Some(device) = shared_gpu(&[x]) else {
            return Ok(None);
        };
        let x = to_channels_last(x)?;
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

    /// Each group's mean and reciprocal standard deviation, `[B, groups, 2]`.
    fn moments(&self, groups: usize, eps: f64) -> Result<Tensor> {
        let floats = |shape: &[usize]| typed_output(shape, DType::F32, self.x.device());
        let stats = floats(&[self.batch, groups, self.chunks(), 2])?;
        let moments = floats(&[self.batch, groups, 2])?;
        // SAFETY: x holds `batch * pixels` pixels of `channels`; stats and moments have the shapes
        // that the kernels document.
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

    /// The image normalised with [`moments`](Self::moments), channels-last.
    fn normed(&self, moments: &Tensor, affine: [&Tensor; 2], silu: bool) -> Result<Tensor> {
        let [weight, bias] = [dense(affine[0])?, dense(affine[1])?];
        let y = output(self.x.dims(), &self.x)?;
        // SAFETY: x and y hold `batch * pixels` pixels of `channels`, weight and bias one element
        // per channel, moments two numbers per group.
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
        as_channels_first(&y)
    }
}

/// The group norm of a channels-last image, or `None` if a pixel has more channels than a thread
/// block supports.
pub(super) fn group_norm(
    x: &Tensor,
    affine: [&Tensor; 2],
    groups: usize,
    eps: f64,
    silu: bool,
) -> Result<Option<Tensor>> {
    let Some(image) = ChannelsLast::of(x)? else {
        return Ok(None);
    };
    let moments = image.moments(groups, eps)?;
    image.normed(&moments, affine, silu).map(Some)
}

/// Mean and reciprocal standard deviation of each group of a channels-last image,
/// `[B, groups, 2]`; `None` as in [`group_norm`].
pub fn group_moments(x: &Tensor, groups: usize, eps: f64) -> Result<Option<Tensor>> {
    if !is_channels_last(x) || x.dim(1)? % groups != 0 {
        return Ok(None);
    }
    let image = ChannelsLast::of(x)?;
    image.map(|image| image.moments(groups, eps)).transpose()
}

/// A group norm with given [`group_moments`]; `None` as in [`group_norm`].
pub fn group_norm_by(
    x: &Tensor,
    moments: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    silu: bool,
) -> Result<Option<Tensor>> {
    if !is_channels_last(x) || shared_gpu(&[x, weight, bias]).is_none() {
        return Ok(None);
    }
    let (batch, channels, _, _) = x.dims4()?;
    let (entries, groups, _) = moments.dims3()?;
    let fits = |t: &Tensor| t.dims() == [channels];
    if entries != batch || channels % groups != 0 || !fits(weight) || !fits(bias) {
        bail!("a group norm does not fit {:?}", x.dims());
    }
    let image = ChannelsLast::of(x)?;
    image
        .map(|image| image.normed(moments, [weight, bias], silu))
        .transpose()
}

/// Nearest-neighbour upsampling by two of a channels-last image.
pub(super) fn upsample_nearest(x: &Tensor) -> Result<Option<Tensor>> {
    let Some(device) = shared_gpu(&[x]) else {
        return Ok(None);
    };
    let x = to_channels_last(x)?;
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
    as_channels_first(&y).map(Some)
}
