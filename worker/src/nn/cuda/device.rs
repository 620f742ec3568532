//! What a GPU has: fp8 units and memory.

use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::{CudaDevice, Error, Result};

use crate::nn::placement::Fp8Refusal;

/// The lowest compute capability whose tensor cores multiply 8-bit floats: Ada's.
const FP8_CAPABILITY: (i32, i32) = (8, 9);

/// Checks that the GPU multiplies 8-bit floats.
pub fn check_fp8(device: &CudaDevice) -> std::result::Result<(), Fp8Refusal> {
    let context = device.cuda_stream().context().clone();
    let (major, minor) = context
        .compute_capability()
        .map_err(|error| Fp8Refusal::Unknown(error.into()))?;
    match (major, minor) >= FP8_CAPABILITY {
        true => Ok(()),
        false => Err(Fp8Refusal::OldGpu { major, minor }),
    }
}

/// Configures the GPU's default memory pool to never return memory to the driver.
pub fn keep_freed_memory(device: &CudaDevice) -> Result<()> {
    let stream = device.cuda_stream();
    let mut bytes = u64::MAX;
    // SAFETY: the context's own device, whose default pool lives as long as it; the attribute is
    // a u64.
    unsafe {
        let pool = result::device::get_default_mem_pool(stream.context().cu_device());
        let pool = pool.map_err(Error::wrap)?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut bytes).cast())
            .map_err(Error::wrap)
    }
}

/// Gives what the GPU's default memory pool keeps of dropped tensors back to the driver.
pub fn give_back_memory(device: &CudaDevice) -> Result<()> {
    let stream = device.cuda_stream();
    // SAFETY: the context's own device, whose default pool lives as long as it.
    unsafe {
        let pool = result::device::get_default_mem_pool(stream.context().cu_device());
        result::mem_pool::trim_to(pool.map_err(Error::wrap)?, 0).map_err(Error::wrap)
    }
}

/// Bytes of the GPU's memory in use and in total.
pub fn device_memory(device: &CudaDevice) -> Option<(u64, u64)> {
    // A thread that has not used the GPU yet has no current context.
    device.cuda_stream().context().bind_to_thread().ok()?;
    let (free, total) = result::mem_get_info().ok()?;
    Some(((total - free) as u64, total as u64))
}

/// Bytes that new tensors can take, including what freed ones have left in the driver's pool.
pub fn available_memory(device: &CudaDevice) -> Option<u64> {
    let (used, total) = device_memory(device).unwrap_or_default();
    let stream = device.cuda_stream();
    let of_pool = |attribute| {
        let mut bytes = 0u64;
        // SAFETY: the context's own device, whose default pool lives as long as it; the
        // attributes are u64s.
        unsafe {
            let pool = result::device::get_default_mem_pool(stream.context().cu_device());
            result::mem_pool::get_attribute(pool.ok()?, attribute, (&raw mut bytes).cast()).ok()?;
        }
        Some(bytes)
    };
    let reserved = of_pool(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
    let in_use = of_pool(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?;
    (total > 0).then(|| (total - used) + reserved.saturating_sub(in_use))
}
