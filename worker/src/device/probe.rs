//! What a device says of itself, whichever models are loaded.

use crate::pipeline::Result;

/// Asks a device for its memory and its health. It is used on the device's thread.
pub trait Probe {
    /// Bytes of device memory in use and in all; 0 if unknown.
    fn memory(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Bytes of GPU memory that operations may take now, beside what the jobs under way hold.
    /// `None` without a GPU.
    fn gpu_memory_left(&self) -> Option<u64> {
        None
    }

    /// Bytes of memory that the weights of another model and its operations could take now; `None`
    /// if unknown.
    fn room(&self) -> Option<u64> {
        self.gpu_memory_left()
    }

    /// Gives memory that a dropped model has left in a driver's pool back to other programs. An
    /// error changes nothing but that.
    fn give_back(&self) {}

    /// Checks that the device still works.
    ///
    /// # Errors
    /// The device answers every call with an error, so this process can no longer use it.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// The probe of a device that has nothing to say.
pub struct Silent;

impl Probe for Silent {}
