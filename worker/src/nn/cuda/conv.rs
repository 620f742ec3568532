//! cuDNN's convolutions.

use candle_core::{bail, DType, Result, Tensor};

use super::address::{address, output, shared_gpu};
use super::channels_last::{as_channels_first, to_channels_last};
use super::copy::dense;
use super::cudnn::ConvolutionShape;
use super::launch::{Arg, Kernel};
use super::layout::{pack, row_grid, THREADS};
use super::libraries::cudnn;
use super::linear::add_bias;

/// Convolves `x` `[B, C, H, W]`, padded with `before` and `after` zero rows and columns, with
/// `weight` `[O, C, k, k]` and adds `bias` `[O]`. See [`Conv2d`](crate::nn::Conv2d).
///
/// Returns `None` also without cuDNN and for shapes that it does not support.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    before: usize,
    after: usize,
) -> Result<Option<Tensor>> {
    let Some(device) = shared_gpu(&[x, weight, bias]) else {
        return Ok(None);
    };
    let Some(cudnn) = cudnn(&device)? else {
        return Ok(None);
    };
    let (batch, channels, height, width) = x.dims4()?;
    let (out_channels, in_channels, kernel_height, kernel_width) = weight.dims4()?;
    let padded = |length: usize| length + before + after;
    if channels != in_channels
        || bias.dims() != [out_channels]
        || padded(height) < kernel_height
        || padded(width) < kernel_width
    {
        bail!(
            "a convolution {:?} does not fit {:?}",
            weight.dims(),
            x.dims()
        );
    }
    let shape = [
        batch,
        out_channels,
        (padded(height) - kernel_height) / stride + 1,
        (padded(width) - kernel_width) / stride + 1,
    ];
    let convolution = ConvolutionShape {
        dtype: x.dtype(),
        x: [batch, channels, height, width].map(|n| n as i64),
        weight: [out_channels, in_channels, kernel_height, kernel_width].map(|n| n as i64),
        y: shape.map(|n| n as i64),
        channels_last: false,
        stride: stride as i64,
        before: before as i64,
        after: after as i64,
    };
    if x.dtype() == DType::BF16 {
        // Given channels-first tensors, cuDNN would transpose its input and output in a workspace
        // as large as both.
        let [batch, channels, height, width] = shape;
        let y = output(&[batch, height, width, channels], x)?;
        let last = ConvolutionShape {
            channels_last: true,
            ..convolution.clone()
        };
        if cudnn.convolution(
            &device,
            last,
            [&to_channels_last(x)?, &to_channels_last(weight)?, &y],
        )? {
            add_bias(&device, &y, bias)?;
            return as_channels_first(&y).map(Some);
        }
    }
    let (x, weight) = (dense(x)?, dense(weight)?);
    let y = output(&shape, &x)?;
    if !cudnn.convolution(&device, convolution, [&x, &weight, &y])? {
        return Ok(None);
    }
    let bias = dense(bias)?;
    let (planes, pixels) = (batch * out_channels, shape[2] * shape[3]);
    let at = address(&y)?;
    let pack = pack(y.dtype(), &[pixels], &[at]);
    let kernel = Kernel {
        family: "elementwise",
        name: "add_channel_bias",
        dtype: y.dtype(),
        pack,
    };
    // SAFETY: y is new and holds `planes` planes of `pixels`; bias holds one element per channel.
    unsafe {
        kernel.launch(
            &device,
            row_grid(planes, pixels, pack),
            THREADS,
            &[
                Arg::At(at),
                Arg::At(address(&bias)?),
                Arg::Count(planes),
                Arg::Count(pixels),
                Arg::Count(out_channels),
            ],
        )?;
    }
    Ok(Some(y))
}
