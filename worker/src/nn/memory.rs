//! The seam to what only a device itself can do about its memory.

use candle_core::{Device, Result};

use super::stream::Copier;

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

    /// Returns memory that no tensor holds to the driver.
    ///
    /// # Errors
    /// The driver fails.
    fn trim(&self, device: &Device) -> Result<()> {
        Ok(())
    }
}
