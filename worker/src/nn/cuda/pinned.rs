//! Host memory that the GPU copies from by itself.

use std::ffi::c_void;
use std::slice;

use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::{Error, Result};

use crate::nn::stream::PinnedBytes;

/// Pinned bytes. They are cached by the CPU as any memory, so that it can read them too.
#[derive(Debug)]
pub struct Pinned {
    start: *mut u8,
    len: usize,
}

// SAFETY: plain memory, which belongs to this value alone.
unsafe impl Send for Pinned {}
// SAFETY: shared references only read it.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Allocates bytes in the context that is current on this thread.
    ///
    /// # Errors
    /// The system does not give so much.
    pub fn new(len: usize) -> Result<Self> {
        // SAFETY: the memory is set before it is read.
        let start: *mut u8 = unsafe {
            let start = result::malloc_host(len, 0).map_err(Error::wrap)?.cast();
            std::ptr::write_bytes(start, 0, len);
            start
        };
        Ok(Self { start, len })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`; whoever copies from it waits before it is dropped.
        let _ = unsafe { result::free_host(self.start.cast::<c_void>()) };
    }
}

impl PinnedBytes for Pinned {
    fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes that `new` has set.
        unsafe { slice::from_raw_parts(self.start, self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed by nobody else.
        unsafe { slice::from_raw_parts_mut(self.start, self.len) }
    }
}
