//! What happens to a job.

use ovis_protocol::{Outcome, WireError};

use crate::pipeline::{Output, Preview, StepReport};

/// One event of a job's life. `Done`, `Failed` and `Cancelled` end it: a job has exactly one
/// of them, and it is the last.
#[derive(Clone, Debug)]
pub enum Event {
    /// The job waits behind this many others.
    Queued(u32),
    /// The device has begun the job.
    Started,
    /// A denoise step is done, with an estimate of the seconds left.
    Progress(StepReport, f32),
    /// A preview of the image after this many steps.
    Preview(u32, Preview),
    /// The job is done, and this is its result.
    Done(Outcome, Output),
    /// The job has failed.
    Failed(WireError),
    /// The job was dropped because its client cancelled it or is gone.
    Cancelled,
}

impl Event {
    /// Whether this is a job's last event.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Done(..) | Self::Failed(_) | Self::Cancelled)
    }

    /// Whether this event makes an unread `old` one of the same job obsolete: a reader needs
    /// only the latest position, progress and preview.
    pub fn supersedes(&self, old: &Self) -> bool {
        matches!(
            (self, old),
            (Self::Queued(_), Self::Queued(_))
                | (Self::Progress(..), Self::Progress(..))
                | (Self::Preview(..), Self::Preview(..))
        )
    }
}
