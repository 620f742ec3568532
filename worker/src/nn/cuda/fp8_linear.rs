//! Linear layers with fp8 factors.

use candle_core::{bail, DType, Device, Result, Tensor};

use super::address::{address, typed_output};
use super::fp8::rescale;
use super::libraries::products;
use super::linear::add_bias;
use super::products::{Factors, Operands, Product};
use crate::nn::scaled_rows::ScaledRows;

/// Where a product is multiplied by the scales of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scaling {
    /// In cuBLASLt's epilogue, on Hopper.
    Product,
    /// In a kernel of ours, on a product in bf16: its range holds any sum of such numbers, and its
    /// 8 bits of precision are far finer than their 4.
    Kernel,
}

/// See [`Linear::forward_rows`](crate::nn::Linear::forward_rows); for rows quantized from bf16.
pub fn fp8_linear(
    x: &ScaledRows,
    weight: &ScaledRows,
    bias: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    let Device::Cuda(device) = x.values.device() else {
        return Ok(None);
    };
    // The unsupported kind would be planned anew, and fail, for every new shape.
    let scalings = match products(device)?.is_hopper() {
        true => [Scaling::Product, Scaling::Kernel],
        false => [Scaling::Kernel, Scaling::Product],
    };
    for scaling in scalings {
        if let Some(y) = fp8_linear_by(scaling, x, weight, bias)? {
            return Ok(Some(y));
        }
    }
    bail!(
        "cuBLASLt has no fp8 product of {:?} and {:?}",
        x.dims(),
        weight.dims()
    )
}

/// [`fp8_linear`] with a given scaling, or `None` if cuBLASLt does not support it.
pub(super) fn fp8_linear_by(
    scaling: Scaling,
    x: &ScaledRows,
    weight: &ScaledRows,
    bias: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    let Device::Cuda(device) = x.values.device() else {
        return Ok(None);
    };
    let (outputs, inputs) = weight.values.dims2()?;
    let Some((&width, outer)) = x.dims().split_last() else {
        bail!("a linear layer takes no scalars");
    };
    let bias = bias.map(Tensor::contiguous).transpose()?;
    if width != inputs || bias.as_ref().is_some_and(|bias| bias.dims() != [outputs]) {
        bail!(
            "a linear layer {outputs} x {inputs} does not fit {:?}",
            x.dims()
        );
    }
    let here = |t: &Tensor| t.device().same_device(x.values.device());
    let bias_fits = bias
        .as_ref()
        .is_none_or(|bias| bias.dtype() == DType::BF16 && here(bias));
    if x.dtype != DType::BF16 || !bias_fits || !here(&weight.values) {
        bail!(
            "fp8 products on a GPU need bf16 inputs and biases on the same GPU, not {:?}",
            x.dtype
        );
    }
    let rows = x.scales.elem_count();
    let y = typed_output(&[rows, outputs], DType::BF16, x.values.device())?;
    let operands = Operands {
        x: address(&x.values)?,
        weight: address(&weight.values)?,
        y: address(&y)?,
        bias: bias.as_ref().map_or(Ok(0), address)?,
        x_scales: address(&x.scales)?,
        weight_scales: address(&weight.scales)?,
    };
    let products = products(device)?;
    let run = |factors, bias| {
        let product = Product {
            factors,
            rows,
            inputs,
            outputs,
            stride: inputs,
            bias,
        };
        // SAFETY: the sizes and strides are those of these tensors.
        unsafe { products.run(product, &operands) }
    };
    let aligned = operands.bias.is_multiple_of(16);
    let done = match (scaling, &bias) {
        (Scaling::Kernel, _) => {
            let done = run(Factors::Fp8, false);
            if done {
                rescale(device, &y, &x.scales, &weight.scales, bias.as_ref())?;
            }
            done
        }
        (Scaling::Product, Some(_)) if aligned && run(Factors::Fp8Scaled, true) => true,
        (Scaling::Product, bias) => {
            let done = run(Factors::Fp8Scaled, false);
            if let (true, Some(bias)) = (done, bias) {
                add_bias(device, &y, bias)?;
            }
            done
        }
    };
    match done {
        true => y.reshape([outer, &[outputs]].concat()).map(Some),
        false => Ok(None),
    }
}
