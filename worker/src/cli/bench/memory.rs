//! Peak memory during a run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use candle_core::Device;

use crate::nn::device_memory;

/// Interval between two queries of a GPU. A decode's peak lasts for tens of milliseconds.
const EVERY: Duration = Duration::from_millis(2);

/// Records peak memory. A GPU's is sampled from a thread; a process's is recorded by the kernel.
pub struct Peak {
    /// Peak bytes so far, and whether the thread should end.
    state: Arc<(AtomicU64, AtomicBool)>,
    thread: Option<JoinHandle<()>>,
}

impl Peak {
    /// Starts recording the memory that `device` uses.
    pub fn watch(device: &Device) -> Self {
        let state = Arc::new((AtomicU64::new(0), AtomicBool::new(false)));
        let thread = device.is_cuda().then(|| {
            let (device, state) = (device.clone(), state.clone());
            std::thread::spawn(move || {
                while !state.1.load(Ordering::Relaxed) {
                    state
                        .0
                        .fetch_max(device_memory(&device).0, Ordering::Relaxed);
                    std::thread::sleep(EVERY);
                }
            })
        });
        Self { state, thread }
    }

    /// Peak bytes so far: of all programs on the GPU, or of this process on a CPU. 0 where the
    /// system does not report it.
    pub fn bytes(&self) -> u64 {
        match self.thread {
            Some(_) => self.state.0.load(Ordering::Relaxed),
            None => process_peak(),
        }
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.state.1.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread cannot fail other than by a panic, which is reported already.
            let _ = thread.join();
        }
    }
}

/// Peak resident memory of this process in bytes: `VmHWM` in Linux's `/proc/self/status`.
fn process_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kibibytes.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}
