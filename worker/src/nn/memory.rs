//! The seam to what only a device itself can do about its memory.

use candle_core::{Device, Result};

use super::stream::Copier;

/// The memory that a device's allocator manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolBytes {
    /// Bytes that the driver has given to the process for tensors.
    pub reserved: u64,
    /// Bytes of tensors.
    pub used: u64,
    /// Most bytes reserved so far.
    pub most_reserved: u64,
    /// Most bytes used so far.
    pub most_used: u64,
    /// The limit, if one was set.
    pub limit: Option<u64>,
}

/// A device's memory as the driver's tools show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessBytes {
    /// Bytes of this process, with the driver's context and libraries; `None` where the driver does
    /// not know the process by the number that it has here, as in some containers.
    pub own: Option<u64>,
    /// Bytes of all processes.
    pub all: u64,
    /// Bytes of the device.
    pub total: u64,
}

/// What only the device itself can do about its memory. The defaults are those of a CPU.
#[expect(unused_variables, reason = "the defaults decline any arguments")]
pub trait DeviceMemory {
    /// What copies pages to the device; `None` if it is the CPU.
    ///
    /// # Errors
    /// The device fails.
    fn copier(&self, device: &Device) -> Result<Option<Box<dyn Copier>>> {
        Ok(None)
    }

    /// Limits the memory that tensors of this process take on the device; `None` removes the limit.
    /// To be called before the first tensor: those that there are do not count. A limit that was set
    /// stays until it is removed. Returns `false` if the device has no such limit.
    ///
    /// # Errors
    /// The driver fails.
    fn limit(&self, device: &Device, bytes: Option<u64>) -> Result<bool> {
        Ok(false)
    }

    /// Puts tensors that are made from now on into other memory than the rest, or no longer. Returns
    /// `false` if there is only one kind of memory.
    ///
    /// # Errors
    /// The driver fails.
    fn set_transit(&self, device: &Device, is_on: bool) -> Result<bool> {
        Ok(false)
    }

    /// What tensors take of the device's memory.
    fn pool(&self, device: &Device) -> Option<PoolBytes> {
        None
    }

    /// What processes take of the device's memory, as the driver's tools show it.
    fn processes(&self, device: &Device) -> Option<ProcessBytes> {
        None
    }

    /// Operations a second of large bf16 products, by the device's properties.
    fn arithmetic(&self, device: &Device) -> Option<f64> {
        None
    }

    /// Bytes a second from pinned host memory to the device, measured.
    ///
    /// # Errors
    /// The device fails, or the host has no memory to pin.
    fn link(&self, device: &Device) -> Result<Option<f64>> {
        Ok(None)
    }
}
