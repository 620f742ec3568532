//! Tensors on a GPU: which one, at which address, and new ones for kernels to write.

use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::{bail, CudaDevice, DType, Device, Result, Storage, Tensor};

/// The GPU that holds all of `tensors`, or `None` if they are not on one GPU or not of one type
/// that the kernels are compiled for (bf16 or f32).
pub(super) fn shared_gpu(tensors: &[&Tensor]) -> Option<CudaDevice> {
    let first = tensors.first()?;
    let Device::Cuda(device) = first.device() else {
        return None;
    };
    let fits = |t: &&Tensor| t.dtype() == first.dtype() && t.device().same_device(first.device());
    (matches!(first.dtype(), DType::BF16 | DType::F32) && tensors.iter().all(fits))
        .then(|| device.clone())
}

/// Address of a tensor's first element, valid for launches on this thread's stream while the
/// tensor is alive.
pub(super) fn address(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        bail!("a tensor for a CUDA kernel is on {:?}", tensor.device());
    };
    let stream = storage.device.cuda_stream();
    // There are no other streams to synchronise with (see the module `cuda`).
    let base = match &storage.slice {
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F8E4M3(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        _ => bail!("CUDA kernels take bf16 and f32, not {:?}", tensor.dtype()),
    };
    Ok(base + (layout.start_offset() * tensor.dtype().size_in_bytes()) as u64)
}

/// A new uninitialised tensor with the type and device of `like`, for a kernel to write.
pub(super) fn output(shape: &[usize], like: &Tensor) -> Result<Tensor> {
    typed_output(shape, like.dtype(), like.device())
}

/// A new uninitialised tensor for a kernel to write.
pub(super) fn typed_output(shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    // SAFETY: every caller launches a kernel that writes all elements before
    // anything on the same stream reads them.
    unsafe { Tensor::empty(shape, dtype, device) }
}
