//! A stream for copies beside the computation, its events, and its limit of bytes a second.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use candle_core::cuda_backend::cudarc::driver::{result, sys, CudaContext};
use candle_core::{Error, Result};

/// Most bytes that are copied at once, so that a limit is kept evenly and buffers stay small.
pub const PIECE: usize = 32 << 20;

/// An event without a time.
pub struct Event(sys::CUevent);

// SAFETY: the driver's functions for events may be called by any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// An event in the context that is current on this thread. Waiting for it before it is recorded
    /// takes no time.
    ///
    /// # Errors
    /// The driver fails.
    pub fn new() -> Result<Self> {
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING);
        event.map(Self).map_err(Error::wrap)
    }

    /// Records it behind all that was given to a stream so far.
    ///
    /// # Errors
    /// The driver fails.
    ///
    /// # Safety
    /// The stream is not destroyed.
    pub unsafe fn record(&self, stream: sys::CUstream) -> Result<()> {
        // SAFETY: the event is destroyed by `drop` alone; the stream by the caller's promise.
        unsafe { result::event::record(self.0, stream) }.map_err(Error::wrap)
    }

    /// Lets all that is given to a stream from now on wait for what was recorded.
    ///
    /// # Errors
    /// The driver fails.
    ///
    /// # Safety
    /// The stream is not destroyed.
    pub unsafe fn delay(&self, stream: sys::CUstream) -> Result<()> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: as in `record`.
        unsafe { result::stream::wait_event(stream, self.0, flags) }.map_err(Error::wrap)
    }

    /// Waits on the CPU for what was recorded.
    ///
    /// # Errors
    /// The driver fails.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the event is destroyed by `drop` alone.
        unsafe { result::event::synchronize(self.0) }.map_err(Error::wrap)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created by `new` and destroyed once.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

/// A limit of bytes a second.
#[derive(Default)]
struct Limit {
    /// Bits of an f64; 0 for none.
    bytes_per_second: AtomicU64,
    /// When the copies so far should end.
    due: Mutex<Option<Instant>>,
}

impl Limit {
    /// Moves the end of the copies by the time for `bytes`, and waits for it. With 0 bytes, copies
    /// begin after a pause.
    fn pace(&self, bytes: usize) {
        let limit = f64::from_bits(self.bytes_per_second.load(Ordering::Relaxed));
        if limit <= 0.0 {
            return;
        }
        let due = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let begin = match (*due, bytes) {
                (Some(due), 1..) => due,
                (Some(due), 0) => due.max(now),
                (None, _) => now,
            };
            *due.insert(begin + Duration::from_secs_f64(bytes as f64 / limit))
        };
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// A stream of copies to the GPU. It does not wait for the computing stream unless it is told to.
pub struct CopyStream {
    stream: sys::CUstream,
    context: Arc<CudaContext>,
    limit: Arc<Limit>,
}

// SAFETY: the driver's functions for streams may be called by any thread.
unsafe impl Send for CopyStream {}
// SAFETY: as above.
unsafe impl Sync for CopyStream {}

impl CopyStream {
    /// A stream of a context. It is made with the driver's own function, because cudarc would
    /// otherwise order all tensors of the process across streams.
    ///
    /// # Errors
    /// The driver fails.
    pub fn new(context: &Arc<CudaContext>) -> Result<Self> {
        context.bind_to_thread().map_err(Error::wrap)?;
        let kind = result::stream::StreamKind::NonBlocking;
        Ok(Self {
            stream: result::stream::create(kind).map_err(Error::wrap)?,
            context: context.clone(),
            limit: Arc::default(),
        })
    }

    /// Makes the stream's context current on this thread.
    ///
    /// # Errors
    /// The driver fails.
    pub fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(Error::wrap)
    }

    /// The driver's stream.
    pub fn raw(&self) -> sys::CUstream {
        self.stream
    }

    /// Limits the bytes a second.
    pub fn throttle(&self, bytes_per_second: Option<f64>) {
        let bits = bytes_per_second.unwrap_or(0.0).to_bits();
        self.limit.bytes_per_second.store(bits, Ordering::Relaxed);
    }

    /// Begins to copy bytes to an address of the GPU.
    ///
    /// # Errors
    /// The driver fails.
    ///
    /// # Safety
    /// The bytes are pinned, and stay as they are until the copy is done. Nothing else uses the
    /// memory at the address meanwhile.
    pub unsafe fn copy(&self, to: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: by the caller's promise.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream) }.map_err(Error::wrap)?;
        self.pace(bytes.len())
    }

    /// Says that copies follow that did not wait for the limit.
    ///
    /// # Errors
    /// The driver fails.
    pub fn begin(&self) -> Result<()> {
        self.pace(0)
    }

    /// Waits in the stream until the limit allows what was copied.
    fn pace(&self, bytes: usize) -> Result<()> {
        if self.limit.bytes_per_second.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let argument = Box::into_raw(Box::new((self.limit.clone(), bytes)));
        // SAFETY: the stream is alive; `paced` takes the box, which the driver calls once.
        let queued = unsafe {
            result::stream::launch_host_function(self.stream, paced, argument.cast::<c_void>())
        };
        queued.map_err(|error| {
            // SAFETY: the driver has not taken the box.
            drop(unsafe { Box::from_raw(argument) });
            Error::wrap(error)
        })
    }

    /// Waits until all copies are done.
    ///
    /// # Errors
    /// The driver fails.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the stream is alive.
        unsafe { result::stream::synchronize(self.stream) }.map_err(Error::wrap)
    }
}

/// Called by the driver between copies.
unsafe extern "C" fn paced(argument: *mut c_void) {
    // SAFETY: the box that `CopyStream::pace` gave away.
    let (limit, bytes) = *unsafe { Box::from_raw(argument.cast::<(Arc<Limit>, usize)>()) };
    limit.pace(bytes);
}

impl Drop for CopyStream {
    fn drop(&mut self) {
        let _ = self.bind().and_then(|()| self.wait());
        // SAFETY: created by `new` and destroyed once, with nothing left to do.
        let _ = unsafe { result::stream::destroy(self.stream) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_kept_on_average() {
        let limit = Limit::default();
        limit.pace(usize::MAX);
        limit
            .bytes_per_second
            .store(1e6f64.to_bits(), Ordering::Relaxed);
        let begin = Instant::now();
        limit.pace(0);
        for _ in 0..10 {
            limit.pace(5_000);
        }
        let seconds = begin.elapsed().as_secs_f64();
        assert!((0.05..0.08).contains(&seconds), "{seconds}");
    }
}
