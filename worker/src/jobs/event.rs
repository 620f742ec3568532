//! What happens to a job.

use std::sync::Arc;

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
    /// The written state of a denoise job after this many steps, for a client that asked for it.
    State(u32, Arc<[u8]>),
    /// The job is done, and this is its result.
    Done(Outcome, Output),
    /// The job has failed.
    Failed(WireError),
    /// The job was dropped because its owner cancelled it or is gone.
    Cancelled,
}

impl Event {
    /// Whether this is a job's last event.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Done(..) | Self::Failed(_) | Self::Cancelled)
    }

    /// Whether this event makes an unread `old` one of the same job obsolete: a reader needs
    /// only the latest position, progress, preview and state, and no state of a job that has
    /// ended.
    pub fn supersedes(&self, old: &Self) -> bool {
        matches!(
            (self, old),
            (Self::Queued(_), Self::Queued(_))
                | (Self::Progress(..), Self::Progress(..))
                | (Self::Preview(..), Self::Preview(..))
                | (Self::State(..), Self::State(..))
        )
    }

    /// Bytes that the event holds, beside a result.
    pub fn extra_bytes(&self) -> u64 {
        match self {
            Self::Preview(_, preview) => preview.rgb.len() as u64,
            Self::State(_, state) => state.len() as u64,
            _ => 0,
        }
    }
}
