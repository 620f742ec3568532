//! Convolutions over `[B, C, H, W]`.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::operation::check_cancelled;

/// Most elements of the unfolded input (input channels x kernel x output
/// pixels) held at a time; larger images are convolved in bands of rows. It also
/// bounds how long a band takes, and with it a cancel.
pub const MAX_UNFOLDED: usize = 1 << 26;

/// A square convolution with bias.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
}

impl Conv2d {
    /// From a weight `[out, in, k, k]` and a bias `[out]`.
    ///
    /// # Errors
    /// The device fails.
    pub fn new(weight: Tensor, bias: Tensor, stride: usize) -> Result<Self> {
        #[cfg(feature = "cuda")]
        let weight = cuda::laid_out(weight)?;
        Ok(Self {
            weight,
            bias,
            stride,
        })
    }

    /// Channels of its output.
    pub fn outputs(&self) -> usize {
        self.weight.dims()[0]
    }

    /// Rows and columns of its input that a pixel of its output sees.
    pub fn kernel(&self) -> usize {
        self.weight.dims()[2]
    }

    /// Rows and columns of its input for one of its output.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Convolves `x`, padded with zeros: `before` rows and columns in front,
    /// `after` behind.
    ///
    /// # Errors
    /// The shapes do not fit, or the device fails.
    pub fn forward(&self, x: &Tensor, before: usize, after: usize) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(y) = cuda::conv2d(x, &self.weight, &self.bias, self.stride, before, after)? {
            return Ok(y);
        }
        let weight = self.weight.to_dtype(x.dtype())?;
        let (out_channels, in_channels, kernel, _) = weight.dims4()?;
        let x = x
            .pad_with_zeros(2, before, after)?
            .pad_with_zeros(3, before, after)?;
        let (b, _, height, width) = x.dims4()?;
        let out_height = (height - kernel) / self.stride + 1;
        let out_width = (width - kernel) / self.stride + 1;
        let row = b * in_channels * kernel * kernel * out_width;
        let rows = (MAX_UNFOLDED / row).clamp(1, out_height);
        let mut bands = Vec::new();
        let mut start = 0;
        while start < out_height {
            check_cancelled()?;
            let length = rows.min(out_height - start);
            let band = x
                .narrow(2, start * self.stride, (length - 1) * self.stride + kernel)?
                .contiguous()?;
            bands.push(band.conv2d(&weight, 0, self.stride, 1, 1)?);
            start += length;
        }
        let y = match bands.len() {
            1 => bands.swap_remove(0),
            _ => Tensor::cat(&bands, 2)?,
        };
        let bias = self
            .bias
            .to_dtype(x.dtype())?
            .reshape((1, out_channels, 1, 1))?;
        y.broadcast_add(&bias)
    }
}

/// Doubles height and width by repeating pixels.
///
/// # Errors
/// The device fails.
pub fn upsample_nearest(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(y) = cuda::upsample_nearest(x)? {
        return Ok(y);
    }
    let (_, _, h, w) = x.dims4()?;
    x.upsample_nearest2d(2 * h, 2 * w)
}
