//! Where a network lives and in which types.

use candle_core::{DType, Device};

use super::operation::host_memory;

/// Where a network lives and in which types.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The device of weights and activations.
    pub device: Device,
    /// Type the weights are kept in.
    pub weights: DType,
    /// Whether the large matrix products of the transformer's blocks are done in fp8 instead,
    /// their weights kept so, and their attention where the device has that. The device must
    /// pass [`check_fp8`].
    pub fp8: bool,
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

    /// The precision's name, for people: `f32`, `bf16`, `fp8`.
    pub fn precision(&self) -> &'static str {
        match self.fp8 {
            true => "fp8",
            false => self.weights.as_str(),
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

/// The least compute capability whose tensor cores multiply 8-bit floats: Ada's.
#[cfg(feature = "cuda")]
const FP8_CAPABILITY: (i32, i32) = (8, 9);

/// Whether the device multiplies 8-bit floats.
///
/// # Errors
/// It does not; the text says what it is instead.
pub fn check_fp8(device: &Device) -> Result<(), String> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        let context = cuda.cuda_stream().context().clone();
        let has = context
            .compute_capability()
            .map_err(|e| format!("a GPU that does not tell its compute capability ({e})"))?;
        return match has >= FP8_CAPABILITY {
            true => Ok(()),
            false => Err(format!("a GPU of compute capability {}.{}", has.0, has.1)),
        };
    }
    let _ = device;
    Err("a CPU".into())
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

/// Bytes of device memory that new tensors can have, those that freed ones have left to the
/// driver's pool included; `None` where the device does not tell. On a CPU it is what the
/// current [`Operation`](super::Operation) may take.
pub fn available_memory(device: &Device) -> Option<u64> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        use candle_core::cuda_backend::cudarc::driver::{result, sys};
        let (used, total) = device_memory(device);
        let stream = cuda.cuda_stream();
        let of_pool = |attribute| {
            let mut bytes = 0u64;
            // SAFETY: the context's own device, whose default pool lives as long as it; the
            // attributes are u64s.
            unsafe {
                let pool = result::device::get_default_mem_pool(stream.context().cu_device());
                result::mem_pool::get_attribute(pool.ok()?, attribute, (&raw mut bytes).cast())
                    .ok()?;
            }
            Some(bytes)
        };
        let reserved = of_pool(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
        let in_use = of_pool(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?;
        return (total > 0).then(|| (total - used) + reserved.saturating_sub(in_use));
    }
    match device.is_cpu() {
        true => host_memory(),
        false => None,
    }
}

/// Whether the device had too little memory.
pub fn is_out_of_memory(error: &candle_core::Error) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    text.contains("out_of_memory") || text.contains("out of memory")
}
