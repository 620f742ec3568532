//! From a job's events to its connection's messages.

use std::sync::{Arc, Mutex, PoisonError};

use ovis_protocol::{JobId, Preview, Progress, WorkerMessage};

use super::jobs::OpenJob;
use super::outbox::Outbox;
use crate::engine::{Event, EventSink};

/// Where one job's events go. Its first `Done`, `Failed` or `Cancelled` is its last message,
/// whatever comes after it.
pub struct JobSink {
    outbox: Arc<Outbox>,
    open: Mutex<Option<OpenJob>>,
}

impl JobSink {
    /// The sink of a job that is open at the outbox's connection.
    pub fn new(outbox: Arc<Outbox>, open: OpenJob) -> Self {
        Self {
            outbox,
            open: Mutex::new(Some(open)),
        }
    }
}

impl EventSink for JobSink {
    fn send(&self, job: JobId, event: Event) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            return;
        }
        let message = match event {
            Event::Queued(position) => WorkerMessage::Queued { job, position },
            Event::Started => WorkerMessage::Started { job },
            Event::Progress(report, seconds_left) => WorkerMessage::Progress(Progress {
                job,
                step: report.step,
                total: report.total,
                sigma: report.sigma,
                seconds_left,
            }),
            Event::Preview(step, preview) => {
                return self.outbox.push_preview(Preview {
                    job,
                    step,
                    width: preview.width,
                    height: preview.height,
                    data: preview.rgb,
                });
            }
            Event::Failed(error) => {
                let message = WorkerMessage::Failed { job, error };
                return self.outbox.push_with(message, open.take(), None);
            }
            Event::Cancelled => {
                let message = WorkerMessage::Cancelled { job };
                return self.outbox.push_with(message, open.take(), None);
            }
            Event::Done(outcome, output) => {
                return self.outbox.push_result(job, open.take(), outcome, output);
            }
        };
        self.outbox.push(message);
    }
}
