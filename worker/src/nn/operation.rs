//! Limits of the operation that the current thread runs: cancellation, and host memory.
//!
//! The thread that owns a device sets them around each call of a model. Long computations query
//! them here, so that they need not be passed down through every function in between.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use candle_core::{Error, Result};

/// The limits of an operation.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// Set to true when the result is no longer wanted.
    pub cancelled: Arc<AtomicBool>,
    /// Bytes of host memory that the operation may allocate on a CPU; `None` for no limit. A GPU's
    /// free memory is queried from its driver instead.
    pub host_memory: Option<u64>,
}

thread_local! {
    static CURRENT: RefCell<Option<Operation>> = const { RefCell::new(None) };
}

/// Restores the previous limits when dropped, also if the work panics.
struct Restore(Option<Operation>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

impl Operation {
    /// Runs `work` with these limits on the current thread.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T {
        let _restore = Restore(CURRENT.replace(Some(self)));
        work()
    }
}

/// Stops a cancelled operation by returning an error. Long computations on a CPU call it at least
/// every tenth of a second.
///
/// # Errors
/// The current operation was cancelled.
pub fn check_cancelled() -> Result<()> {
    let cancelled = CURRENT.with_borrow(|operation| {
        let operation = operation.as_ref();
        operation.is_some_and(|operation| operation.cancelled.load(Ordering::Relaxed))
    });
    match cancelled {
        true => Err(Error::Msg("the operation was cancelled".into())),
        false => Ok(()),
    }
}

/// Bytes of host memory that the current operation may allocate; `None` for no limit.
pub fn host_memory() -> Option<u64> {
    CURRENT.with_borrow(|operation| operation.as_ref()?.host_memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_while_the_work_runs() {
        let operation = Operation {
            host_memory: Some(7),
            ..Operation::default()
        };
        let cancelled = operation.cancelled.clone();
        assert!(check_cancelled().is_ok());
        operation.run(|| {
            assert_eq!(host_memory(), Some(7));
            assert!(check_cancelled().is_ok());
            Operation::default().run(|| assert_eq!(host_memory(), None));
            assert_eq!(host_memory(), Some(7));
            cancelled.store(true, Ordering::Relaxed);
            assert!(check_cancelled().is_err());
        });
        assert!(check_cancelled().is_ok());
        assert_eq!(host_memory(), None);
    }

    #[test]
    fn a_panic_leaves_no_limits_behind() {
        let operation = Operation::default();
        operation.cancelled.store(true, Ordering::Relaxed);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            operation.run(|| panic!("for the test"));
        }));
        assert!(panicked.is_err());
        assert!(check_cancelled().is_ok());
    }
}
