//! Convolutions over `[B, C, H, W]`.

use candle_core::{Result, Tensor};

use super::backend::fused;
use super::fused::Fused;
use super::operation::check_cancelled;

/// Largest number of elements of the unfolded input (input channels x kernel x output pixels) held
/// at a time; larger images are convolved in bands of rows. It also bounds the time between two
/// checks for a cancel.
pub const MAX_UNFOLDED: usize = 1 << 26;

/// A square convolution with bias.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
}

impl Conv2d {
    /// A convolution with weight `[out, in, k, k]` and bias `[out]`.
    ///
    /// # Errors
    /// The weight cannot be copied into the memory layout that the device prefers.
    pub fn new(weight: Tensor, bias: Tensor, stride: usize) -> Result<Self> {
        Ok(Self {
            weight: fused().conv_weight(&weight)?.unwrap_or(weight),
            bias,
            stride,
        })
    }

    /// Number of output channels.
    pub fn outputs(&self) -> usize {
        self.weight.dims()[0]
    }

    /// Height and width of the kernel.
    pub fn kernel(&self) -> usize {
        self.weight.dims()[2]
    }

    /// Input rows and columns per output row and column.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Convolves `x`, padded with `before` zero rows and columns at the top and left and `after` at
    /// the bottom and right.
    ///
    /// # Errors
    /// The shapes do not fit, or the operation was cancelled.
    pub fn forward(&self, x: &Tensor, before: usize, after: usize) -> Result<Tensor> {
        let (weight, padding) = (&self.weight, [before, after]);
        if let Some(y) = fused().conv2d(x, weight, &self.bias, self.stride, padding)? {
            return Ok(y);
        }
        let weight = weight.to_dtype(x.dtype())?;
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

/// Doubles height and width by nearest-neighbour upsampling.
///
/// # Errors
/// `x` is not `[B, C, H, W]`.
pub fn upsample_nearest(x: &Tensor) -> Result<Tensor> {
    if let Some(y) = fused().upsample_nearest(x)? {
        return Ok(y);
    }
    let (_, _, h, w) = x.dims4()?;
    x.upsample_nearest2d(2 * h, 2 * w)
}
