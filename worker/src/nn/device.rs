//! What a device has: its libraries, fp8 units and memory.

use candle_core::{Device, Result};

use super::backend::{fused, memory};
use super::fused::Fused;
use super::memory::{DeviceMemory, PoolBytes, ProcessBytes};
use super::no_gpu::NoGpu;
use super::operation::host_memory;
use super::placement::Fp8Refusal;
use super::stream::{Copier, HostCopier};

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

/// What copies pages of weights to a device.
///
/// # Errors
/// The device fails.
pub fn copier(device: &Device) -> Result<Box<dyn Copier>> {
    let of_device = memory().copier(device)?;
    Ok(of_device.unwrap_or_else(|| Box::new(HostCopier)))
}

/// Limits the memory that tensors of this process take on a device; `None` removes the limit. An
/// allocation above it fails like one that the device has no memory for. To be called before the
/// first tensor. A limit that was set stays until it is removed. Returns `false` if the device has no
/// such limit.
///
/// # Errors
/// The driver fails.
pub fn limit_memory(device: &Device, bytes: Option<u64>) -> Result<bool> {
    memory().limit(device, bytes)
}

/// Runs `body`, whose tensors are on their way to the host or to memory of their own. Where memory is
/// limited, they are apart from all others: freed among tensors that stay, they would leave gaps that
/// nothing large fits in, and the limit would be reached too early. They do not count towards it.
///
/// # Errors
/// The driver fails.
pub fn in_transit<T>(device: &Device, body: impl FnOnce() -> T) -> Result<T> {
    struct Back<'a>(Option<&'a Device>);
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            if let Some(Err(error)) = self.0.map(|device| memory().set_transit(device, false)) {
                tracing::error!(%error, "the driver does not go back to the limited memory");
            }
        }
    }
    let is_apart = memory().set_transit(device, true)?;
    let _back = Back(is_apart.then_some(device));
    Ok(body())
}

/// Whether the memory that tensors take on a device has a limit.
pub fn is_memory_limited(device: &Device) -> bool {
    pool_memory(device).is_some_and(|pool| pool.limit.is_some())
}

/// What tensors take of a device's memory; `None` if unknown, as on a CPU.
pub fn pool_memory(device: &Device) -> Option<PoolBytes> {
    memory().pool(device)
}

/// What processes take of a device's memory, as the driver's tools show it; `None` if unknown.
pub fn process_memory(device: &Device) -> Option<ProcessBytes> {
    memory().processes(device)
}

/// An estimate of the operations a second that a device reaches in large bf16 products, by its
/// properties; `None` if unknown, as on a CPU.
pub fn arithmetic_speed(device: &Device) -> Option<f64> {
    memory().arithmetic(device)
}

/// Measures how many bytes a second come from pinned host memory to a device; `None` on a CPU.
///
/// # Errors
/// The device fails, or the host has no memory to pin.
pub fn link_speed(device: &Device) -> Result<Option<f64>> {
    memory().link(device)
}
