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

    /// Notes that an operation begins. It ends when what is returned is dropped.
    pub fn begin(&self, operation: &'static str, job: Option<Uuid>) -> Beat<'_> {
        *self.lock() = Some(Busy {
            operation,
            job,
            since: Instant::now(),
        });
        Beat(self)
    }

    /// The operation under way, if it began longer than `limit` ago.
    pub fn overdue(&self, limit: Duration) -> Option<Busy> {
        let busy = self.lock().clone()?;
        (busy.since.elapsed() > limit).then_some(busy)
    }
}

/// An operation under way.
pub struct Beat<'a>(&'a Pulse);

impl Drop for Beat<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
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
}
