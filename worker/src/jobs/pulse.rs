//! Whether a device still works: what it does at present, and since when.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// An operation that a device is busy with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// What it does: `encode`, `denoise step`, `check`.
    pub operation: &'static str,
    /// The job it is for, if it is for one.
    pub job: Option<Uuid>,
    /// When it began.
    pub since: Instant,
}

/// What a device is busy with. Its thread tells; anybody may ask, and nobody waits for long.
#[derive(Default)]
pub struct Pulse(Mutex<Option<Busy>>);

impl Pulse {
    fn lock(&self) -> MutexGuard<'_, Option<Busy>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an operation begins. It ends when what is returned is dropped; the one that it
    /// is part of, if any, is under way again then.
    pub fn begin(&self, operation: &'static str, job: Option<Uuid>) -> Beat<'_> {
        let outer = self.lock().replace(Busy {
            operation,
            job,
            since: Instant::now(),
        });
        Beat { pulse: self, outer }
    }

    /// The operation under way, if it began longer than `limit` ago.
    pub fn overdue(&self, limit: Duration) -> Option<Busy> {
        let busy = self.lock().clone()?;
        (busy.since.elapsed() > limit).then_some(busy)
    }
}

/// An operation under way.
pub struct Beat<'a> {
    pulse: &'a Pulse,
    /// The operation that this one is part of.
    outer: Option<Busy>,
}

impl Drop for Beat<'_> {
    fn drop(&mut self) {
        *self.pulse.lock() = self.outer.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_overdue_until_it_ends() {
        let pulse = Pulse::default();
        assert_eq!(pulse.overdue(Duration::ZERO), None);
        let beat = pulse.begin("decode", Some(Uuid::nil()));
        std::thread::sleep(Duration::from_millis(2));
        let busy = pulse.overdue(Duration::from_millis(1)).unwrap();
        assert_eq!((busy.operation, busy.job), ("decode", Some(Uuid::nil())));
        assert_eq!(pulse.overdue(Duration::from_secs(60)), None);
        drop(beat);
        assert_eq!(pulse.overdue(Duration::ZERO), None);
    }

    #[test]
    fn a_part_of_an_operation_does_not_end_it() {
        let pulse = Pulse::default();
        let outer = pulse.begin("denoise step", Some(Uuid::nil()));
        let since = pulse.lock().clone().unwrap().since;
        let inner = pulse.begin("check", None);
        assert_eq!(pulse.lock().clone().unwrap().operation, "check");
        drop(inner);
        let busy = pulse.lock().clone().unwrap();
        assert_eq!((busy.operation, busy.since), ("denoise step", since));
        drop(outer);
        assert_eq!(*pulse.lock(), None);
    }
}
