//! Products with bias.

use candle_core::cuda_backend::cudarc::cublaslt::{Matmul, MatmulConfig};
use candle_core::cuda_backend::cudarc::driver::CudaView;
use candle_core::op::BackpropOp;
use candle_core::{bail, CudaDevice, CudaStorage, DType, Result, Storage, Tensor};
use half::bf16;

use super::runtime::{
    address, blas, pack, row_grid, shared_gpu, with_rows, Arg, Kernel, Rows, THREADS,
};

/// `x W^T + b` for `x` `[.., in]`, `weight` `[out, in]` and `bias` `[out]`, all
/// of one type. bf16 products accumulate in f32 and take the bias in cuBLASLt's
/// epilogue; f32 ones are full f32 (never TF32).
///
/// # Errors
/// The shapes do not fit, or the device fails.
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
    let weight = weight.contiguous()?;
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

/// The bf16 product and bias as one cuBLASLt call, `[rows, out]`. `None` when it
/// has no algorithm for these sizes and alignments.
fn fused(
    device: &CudaDevice,
    x: &Tensor,
    rows: &Rows,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    let (out_dim, in_dim) = weight.dims2()?;
    // cuBLASLt takes it that addresses are aligned, whatever the sizes are.
    let bias = bias.map(Tensor::contiguous).transpose()?;
    for tensor in [Some(x), Some(weight), bias.as_ref()].into_iter().flatten() {
        if address(tensor)? % 16 != 0 {
            return Ok(None);
        }
    }
    // SAFETY: the product writes all of it.
    let mut y = unsafe { device.alloc::<bf16>(rows.count * out_dim)? };
    // cuBLAS is column-major: what it sees is y^T = W x^T.
    let config = MatmulConfig {
        transa: true,
        transb: false,
        transc: false,
        m: out_dim as u64,
        n: rows.count as u64,
        k: in_dim as u64,
        alpha: 1.0,
        lda: in_dim as i64,
        ldb: rows.stride as i64,
        beta: 0.0,
        ldc: out_dim as i64,
        stride_a: None,
        stride_b: None,
        stride_c: None,
        stride_bias: None,
        batch_size: None,
    };
    let (x_storage, x_layout) = x.storage_and_layout();
    let (w_storage, w_layout) = weight.storage_and_layout();
    let b_parts = bias.as_ref().map(Tensor::storage_and_layout);
    let x_view = view(&x_storage, x_layout.start_offset())?;
    let w_view = view(&w_storage, w_layout.start_offset())?;
    let b_view = match &b_parts {
        Some((storage, layout)) => Some(view(storage, layout.start_offset())?),
        None => None,
    };
    // SAFETY: sizes and strides describe these tensors.
    let done =
        unsafe { blas(device)?.matmul(config, &w_view, &x_view, &mut y, b_view.as_ref(), None) };
    if let Err(reason) = done {
        tracing::debug!(?config, ?reason, "cuBLASLt does not take this product");
        return Ok(None);
    }
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(y, device.clone()));
    Ok(Some(Tensor::from_storage(
        storage,
        (rows.count, out_dim),
        BackpropOp::none(),
        false,
    )))
}

/// A bf16 tensor's elements from `offset` on.
fn view(storage: &Storage, offset: usize) -> Result<CudaView<'_, bf16>> {
    match storage {
        Storage::Cuda(storage) => Ok(storage.as_cuda_slice::<bf16>()?.slice(offset..)),
        _ => bail!("a linear layer's tensor left the GPU"),
    }
}

/// `y += bias` over the last dimension of a fresh contiguous tensor.
fn add_bias(device: &CudaDevice, y: &Tensor, bias: &Tensor) -> Result<()> {
    let bias = bias.contiguous()?;
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
    // SAFETY: y holds `rows` rows of `width`, and nobody else has it yet.
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
