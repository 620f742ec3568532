//! What bounds the operation that this thread runs: a cancel, and the memory it may take.
//!
//! The thread that owns a device sets both around each call of a model. Everything below
//! that runs for long asks here, so that nothing between has to hand them down.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use candle_core::{Error, Result};

/// The bounds of an operation.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// Becomes true when nobody wants the result any more.
    pub cancelled: Arc<AtomicBool>,
    /// Bytes of host memory the operation may take on a CPU; `None` for no bound. A GPU is
    /// asked itself.
    pub host_memory: Option<u64>,
}

thread_local! {
    static CURRENT: RefCell<Option<Operation>> = const { RefCell::new(None) };
}

/// Puts back what was current before, also when the work panics.
struct Restore(Option<Operation>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

impl Operation {
    /// Runs `work` within these bounds, on this thread.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T {
        let _restore = Restore(CURRENT.replace(Some(self)));
        work()
    }
}

/// Gives up when the current operation was cancelled. To be called at least every tenth of a
/// second by whatever runs for long on a CPU.
///
/// # Errors
/// It was cancelled.
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

/// Bytes of host memory that the current operation may take, if that is bounded.
pub fn host_memory() -> Option<u64> {
    CURRENT.with_borrow(|operation| operation.as_ref()?.host_memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_while_the_work_runs() {
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
    fn a_panic_leaves_no_bounds_behind() {
        let operation = Operation::default();
        operation.cancelled.store(true, Ordering::Relaxed);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            operation.run(|| panic!("for the test"));
        }));
        assert!(panicked.is_err());
        assert!(check_cancelled().is_ok());
    }
}
