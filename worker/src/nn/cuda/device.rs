//! What a GPU has: fp8 units and memory.

use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::CudaDevice;

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

/// Bytes of the GPU's memory in use and in total.
pub fn device_memory(device: &CudaDevice) -> Option<(u64, u64)> {
    // A thread that has not used the GPU yet has no current context.
    device.cuda_stream().context().bind_to_thread().ok()?;
    let (free, total) = result::mem_get_info().ok()?;
    Some(((total - free) as u64, total as u64))
}
