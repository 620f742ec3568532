//! What a device has: its libraries, fp8 units and memory.

use candle_core::{Device, Result};

use super::backend::fused;
use super::fused::Fused;
use super::no_gpu::NoGpu;
use super::operation::host_memory;
use super::placement::Fp8Refusal;

/// Checks that the GPU of a number can be used. Call it before the device is opened: it opens CUDA's
/// libraries.
///
/// # Errors
/// The program was built without GPU support, or the driver, a library or the GPU is missing or too
/// old.
pub fn check_gpu(ordinal: usize) -> std::result::Result<(), NoGpu> {
    fused().check_gpu(ordinal)
}

/// Configures the driver to keep the memory of dropped tensors for new ones. By default it unmaps
/// all of it at every synchronisation, which happens after each denoise step, and maps it again in
/// the next.
///
/// # Errors
/// The driver rejects the setting.
pub fn keep_freed_memory(device: &Device) -> Result<()> {
    fused().keep_freed_memory(device)
}

/// Gives the memory of dropped tensors, which [`keep_freed_memory`] keeps, back to other programs.
///
/// # Errors
/// The driver fails.
pub fn give_back_memory(device: &Device) -> Result<()> {
    device.synchronize()?;
    fused().give_back_memory(device)
}

/// Checks that the device multiplies 8-bit floats.
///
/// # Errors
/// It does not; the text says what it is instead.
pub fn check_fp8(device: &Device) -> std::result::Result<(), Fp8Refusal> {
    fused().check_fp8(device)
}

/// Bytes of device memory in use and in total; zeros on a CPU, whose memory the worker shares with
/// other programs.
pub fn device_memory(device: &Device) -> (u64, u64) {
    fused().device_memory(device).unwrap_or_default()
}

/// Bytes of device memory that new tensors can take, including what freed tensors have left in the
/// driver's pool; `None` if unknown. On a CPU, the limit of the current
/// [`Operation`](super::Operation).
pub fn available_memory(device: &Device) -> Option<u64> {
    match device.is_cpu() {
        true => host_memory(),
        false => fused().available_memory(device),
    }
}

/// Whether an operation failed because the device had too little memory.
pub fn is_out_of_memory(error: &candle_core::Error) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    text.contains("out_of_memory") || text.contains("out of memory")
}
