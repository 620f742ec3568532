//! cuDNN's convolutions.

use candle_core::{bail, DType, Result, Tensor};

use super::channels_last::{as_planes, together};
use super::copy::dense;
use super::cudnn::ConvolutionShape;
use super::linear::add_bias;
use super::runtime::{address, cudnn, output, pack, row_grid, shared_gpu, Arg, Kernel, THREADS};

/// Convolves `x` `[B, C, H, W]` with `weight` `[O, C, k, k]` and adds `bias`
/// `[O]`; `before` zero rows and columns in front, `after` behind. See
/// [`Conv2d`](crate::nn::Conv2d).
///
/// Answers `None` also where cuDNN is missing or does not take the shape.
///
/// # Errors
/// The shapes do not fit, or the device fails.
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
    let Ok(cudnn) = cudnn(&device)? else {
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
        // Plane after plane, cuDNN would turn its input and output in a workspace as large
        // as both.
        let [batch, channels, height, width] = shape;
        let y = output(&[batch, height, width, channels], x)?;
        let last = ConvolutionShape {
            channels_last: true,
            ..convolution.clone()
        };
        if cudnn.convolution(&device, last, [&together(x)?, &together(weight)?, &y])? {
            add_bias(&device, &y, bias)?;
            return as_planes(&y).map(Some);
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
    // SAFETY: y holds `planes` planes of `pixels`, bias an element a channel,
    // and nobody else has y yet.
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
