//! Matrix products with bias.

use candle_core::{bail, CudaDevice, DType, Result, Tensor};

use super::address::{address, output, shared_gpu};
use super::copy::dense;
use super::launch::{Arg, Kernel};
use super::layout::{pack, row_grid, Rows, THREADS};
use super::libraries::products;
use super::products::{Factors, Operands, Product};
use super::rows_of::with_rows;

/// `x W^T + b` for `x` `[.., in]`, `weight` `[out, in]` and `bias` `[out]`, all of one type. bf16
/// products accumulate in f32 and add the bias in cuBLASLt's epilogue; f32 products use full f32,
/// never TF32.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    let tensors: Vec<&Tensor> = [Some(x), Some(weight), bias]
        .into_iter()
        .flatten()
        .collect();
    let Some(device) = shared_gpu(&tensors) else {
        return Ok(None);
    };
    let (out_dim, in_dim) = weight.dims2()?;
    let Some((&width, outer)) = x.dims().split_last() else {
        bail!("a linear layer takes no scalars");
    };
    if width != in_dim || bias.is_some_and(|bias| bias.dims() != [out_dim]) {
        bail!(
            "a linear layer {out_dim} x {in_dim} does not fit {:?}",
            x.dims()
        );
    }
    let shape = [outer, &[out_dim]].concat();
    let (x, rows) = with_rows(x)?;
    let weight = dense(weight)?;
    if x.dtype() == DType::BF16 && rows.count > 0 {
        if let Some(y) = fused(&device, &x, &rows, &weight, bias)? {
            return Ok(Some(y.reshape(shape)?));
        }
    }
    let y = x
        .reshape((rows.count, in_dim))?
        .matmul(&weight.t()?)?
        .reshape(shape)?;
    if let Some(bias) = bias {
        add_bias(&device, &y, bias)?;
    }
    Ok(Some(y))
}

/// The bf16 product and bias in one cuBLASLt call, `[rows, out]`, or `None` if it has no algorithm
/// for these sizes and alignments.
fn fused(
    device: &CudaDevice,
    x: &Tensor,
    rows: &Rows,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    let (outputs, inputs) = weight.dims2()?;
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let y = output(&[rows.count, outputs], x)?;
    let operands = Operands {
        x: address(x)?,
        weight: address(weight)?,
        y: address(&y)?,
        bias: bias.as_ref().map_or(Ok(0), address)?,
        x_scales: 0,
        weight_scales: 0,
    };
    // cuBLASLt assumes aligned addresses for all sizes.
    if [operands.x, operands.weight, operands.bias]
        .iter()
        .any(|address| address % 16 != 0)
    {
        return Ok(None);
    }
    let product = Product {
        factors: Factors::Bf16,
        rows: rows.count,
        inputs,
        outputs,
        stride: rows.stride,
        bias: bias.is_some(),
    };
    // SAFETY: the sizes and strides are those of these tensors.
    let done = unsafe { products(device)?.run(product, &operands) };
    Ok(done.then_some(y))
}

/// `y += bias` in place over the last dimension of a new contiguous tensor.
pub(super) fn add_bias(device: &CudaDevice, y: &Tensor, bias: &Tensor) -> Result<()> {
    let bias = dense(bias)?;
    let width = bias.dim(0)?;
    let rows = y.elem_count() / width;
    let at = [address(y)?, address(&bias)?];
    let pack = pack(y.dtype(), &[width], &at);
    let kernel = Kernel {
        family: "elementwise",
        name: "add_bias",
        dtype: y.dtype(),
        pack,
    };
    // SAFETY: y is new and holds `rows` rows of `width`.
    unsafe {
        kernel.launch(
            device,
            row_grid(rows, width, pack),
            THREADS,
            &[
                Arg::At(at[0]),
                Arg::At(at[1]),
                Arg::Count(rows),
                Arg::Count(width),
            ],
        )
    }
}
