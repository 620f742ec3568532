//! Where a network lives and in which types.

use candle_core::{DType, Device};

/// Where a network lives and in which types.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The device of weights and activations.
    pub device: Device,
    /// Type the weights are kept in.
    pub weights: DType,
}

impl Placement {
    /// Type the arithmetic is done in. On a CPU bf16 is a way to store weights;
    /// the arithmetic is float32, because CPUs have no bf16 units worth using.
    pub fn compute(&self) -> DType {
        if self.device.is_cpu() {
            DType::F32
        } else {
            self.weights
        }
    }

    /// The device's name, for people: `cpu`, `cuda:0`.
    pub fn device_name(&self) -> String {
        match self.device.location() {
            candle_core::DeviceLocation::Cpu => "cpu".into(),
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        }
    }
}

/// Has the driver keep the memory of dropped tensors for the next ones. It would otherwise
/// unmap all of it whenever the device is waited for, which a denoise job does after every
/// step, and map it again in the next.
///
/// # Errors
/// The device fails.
pub fn keep_freed_memory(device: &Device) -> candle_core::Result<()> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        use candle_core::cuda_backend::cudarc::driver::{result, sys};
        let stream = cuda.cuda_stream();
        let mut bytes = u64::MAX;
        // SAFETY: the context's own device, whose default pool lives as long as it; the
        // attribute is a u64.
        unsafe {
            let pool = result::device::get_default_mem_pool(stream.context().cu_device());
            let pool = pool.map_err(candle_core::Error::wrap)?;
            let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, attribute, (&raw mut bytes).cast())
                .map_err(candle_core::Error::wrap)?;
        }
    }
    let _ = device;
    Ok(())
}

/// Bytes of device memory in use and in all; zeros on a CPU, whose memory the
/// worker does not own.
pub fn device_memory(device: &Device) -> (u64, u64) {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        // A thread that has done nothing on the GPU yet has no context.
        let bound = cuda.cuda_stream().context().bind_to_thread();
        let query = candle_core::cuda_backend::cudarc::driver::result::mem_get_info;
        if let (Ok(()), Ok((free, total))) = (bound, query()) {
            return ((total - free) as u64, total as u64);
        }
    }
    let _ = device;
    (0, 0)
}
