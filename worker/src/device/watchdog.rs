//! Notices a device that hangs: an operation that does not come back.
//!
//! A call into a GPU's driver can block for ever. The thread that made it cannot be ended, so
//! only another process can go on; a supervisor is to start it.

use std::time::Duration;

use crate::jobs::{Health, Jobs};

/// How often the device is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Watches over a device until it has ended. An operation that takes longer than `limit` is
/// reported with [`Jobs::report_device_hung`].
///
/// # Errors
/// The system gives no thread.
pub fn watch(jobs: Jobs, limit: Duration) -> std::io::Result<()> {
    let interval = INTERVAL.min(limit / 4);
    let look = move || {
        while jobs.health() != Health::Ended {
            if let Some(busy) = jobs.pulse().overdue(limit) {
                tracing::error!(
                    operation = busy.operation,
                    job = busy.job.map(tracing::field::display),
                    seconds = busy.since.elapsed().as_secs(),
                    "the device hangs"
                );
                jobs.report_device_hung();
                return;
            }
            std::thread::sleep(interval);
        }
    };
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(look)
        .map(drop)
}
