//! A job's event as a message.

use ovis_protocol::{DType, JobId, Preview, Progress, TensorHeader, WorkerMessage};

use crate::jobs::Event;

/// The message that tells a client of an event. A result's values follow it as chunks. A state
/// has no message beside its parts.
pub fn message(job: JobId, event: Event) -> Option<WorkerMessage> {
    Some(match event {
        Event::State(..) => return None,
        Event::Queued(position) => WorkerMessage::Queued { job, position },
        Event::Started => WorkerMessage::Started { job },
        Event::Progress(report, seconds_left) => WorkerMessage::Progress(Progress {
            job,
            step: report.step,
            total: report.total,
            sigma: report.sigma,
            seconds_left,
        }),
        Event::Preview(step, preview) => WorkerMessage::Preview(Preview {
            job,
            step,
            width: preview.width,
            height: preview.height,
            data: preview.rgb,
        }),
        Event::Done(outcome, output) => WorkerMessage::Done {
            job,
            outcome,
            tensors: vec![TensorHeader::new(output.name, DType::F32, output.shape())],
        },
        Event::Failed(error) => WorkerMessage::Failed { job, error },
        Event::Cancelled => WorkerMessage::Cancelled { job },
    })
}
