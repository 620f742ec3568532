//! What waits to be sent on one connection.
//!
//! The engine puts events in without ever waiting; the connection's writer
//! takes messages out as fast as the client reads. Memory stays bounded: an
//! unsent position, progress or preview is replaced by its successor, results are cut
//! into chunks only as they are sent, and too many unread results fail.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ovis_protocol::limits::{MAX_CHUNK_BYTES, MAX_JOBS_PER_CONNECTION, MAX_TENSOR_BYTES};
use ovis_protocol::{
    Chunk, DType, ErrorCode, JobId, Preview, Progress, TensorHeader, WireError, WorkerMessage,
};
use tokio::sync::Notify;

use crate::engine::{Event, EventSink, Output};

/// Most messages that wait before the connection stops reading requests.
const MAX_WAITING: usize = 1024;

const CHUNK_VALUES: usize = MAX_CHUNK_BYTES / size_of::<f32>();

/// One connection's outgoing messages and its unfinished jobs.
#[derive(Default)]
pub struct Outbox {
    inner: Mutex<Inner>,
    ready: Notify,
    taken: Notify,
}

#[derive(Default)]
struct Inner {
    messages: VecDeque<WorkerMessage>,
    results: VecDeque<Delivery>,
    result_bytes: u64,
    /// Unfinished jobs and the tensor bytes each announced.
    jobs: HashMap<JobId, u64>,
    closed: bool,
}

/// A result of which `sent` values are on their way.
struct Delivery {
    job: JobId,
    output: Output,
    sent: usize,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a job of this UUID is unfinished here.
    pub fn has_job(&self, job: JobId) -> bool {
        self.lock().jobs.contains_key(&job)
    }

    /// Notes a new unfinished job that announces `bytes` of tensors.
    ///
    /// # Errors
    /// The connection has too many of them, or of their bytes.
    pub fn open_job(&self, job: JobId, bytes: u64) -> Result<(), WireError> {
        let mut inner = self.lock();
        if inner.jobs.len() >= MAX_JOBS_PER_CONNECTION {
            return Err(WireError::new(
                ErrorCode::QueueFull,
                format!("This connection has {MAX_JOBS_PER_CONNECTION} unfinished jobs, the most there may be."),
                "Wait for one to end, or cancel one.",
            ));
        }
        let announced: u64 = inner.jobs.values().sum();
        if announced + bytes > MAX_TENSOR_BYTES {
            return Err(WireError::new(
                ErrorCode::QueueFull,
                format!("The tensors of this connection's unfinished jobs would exceed {MAX_TENSOR_BYTES} bytes."),
                "Wait for a job to end, or send smaller ones.",
            ));
        }
        inner.jobs.insert(job, bytes);
        Ok(())
    }

    /// Puts a message behind those that wait.
    pub fn push(&self, message: WorkerMessage) {
        self.lock().push(message);
        self.ready.notify_one();
    }

    /// Lets no more in; what waits is still sent, unsent results only if
    /// `with_results`.
    pub fn close(&self, with_results: bool) {
        let mut inner = self.lock();
        inner.closed = true;
        if !with_results {
            inner.results.clear();
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// The next message to send; `None` once closed and empty.
    pub async fn next(&self) -> Option<WorkerMessage> {
        loop {
            {
                let mut inner = self.lock();
                if let Some(message) = inner.pop() {
                    drop(inner);
                    self.taken.notify_one();
                    return Some(message);
                }
                if inner.closed {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }

    /// Waits until so few messages wait that more requests may be read.
    pub async fn has_room(&self) {
        while self.lock().messages.len() >= MAX_WAITING {
            self.taken.notified().await;
        }
    }
}

impl Inner {
    fn push(&mut self, message: WorkerMessage) {
        if self.closed {
            return;
        }
        if let Some(waiting) = self.messages.iter_mut().find(|m| supersedes(&message, m)) {
            *waiting = message;
        } else {
            self.messages.push_back(message);
        }
    }

    fn pop(&mut self) -> Option<WorkerMessage> {
        if let Some(message) = self.messages.pop_front() {
            if let WorkerMessage::Failed { job, .. } | WorkerMessage::Cancelled { job } = &message {
                self.jobs.remove(job);
            }
            return Some(message);
        }
        let delivery = self.results.front_mut()?;
        let end = (delivery.sent + CHUNK_VALUES).min(delivery.output.len());
        let chunk = Chunk {
            job: delivery.job,
            tensor: 0,
            offset: (delivery.sent * size_of::<f32>()) as u64,
            data: delivery.output.bytes(delivery.sent..end),
        };
        delivery.sent = end;
        if end == delivery.output.len() {
            self.result_bytes -= (end * size_of::<f32>()) as u64;
            self.jobs.remove(&delivery.job);
            self.results.pop_front();
        }
        Some(WorkerMessage::Chunk(chunk))
    }

    fn push_result(&mut self, job: JobId, outcome: ovis_protocol::Outcome, output: Output) {
        let bytes = (output.len() * size_of::<f32>()) as u64;
        if self.closed {
            return;
        }
        if output.is_empty() || bytes > MAX_TENSOR_BYTES {
            let error = WireError::new(
                ErrorCode::Internal,
                format!("The result of {bytes} bytes cannot be sent."),
                "Use a smaller batch or size.",
            );
            return self.push(WorkerMessage::Failed { job, error });
        }
        if self.result_bytes + bytes > MAX_TENSOR_BYTES {
            let error = WireError::new(
                ErrorCode::QueueFull,
                "Too many results wait for this connection to read them.",
                "Read results while submitting jobs.",
            );
            return self.push(WorkerMessage::Failed { job, error });
        }
        self.result_bytes += bytes;
        self.push(WorkerMessage::Done {
            job,
            outcome,
            tensors: vec![TensorHeader::new(output.name, DType::F32, output.shape())],
        });
        self.results.push_back(Delivery {
            job,
            output,
            sent: 0,
        });
    }
}

/// Whether `new` makes the waiting message `old` pointless.
fn supersedes(new: &WorkerMessage, old: &WorkerMessage) -> bool {
    match (new, old) {
        (WorkerMessage::Queued { job: new, .. }, WorkerMessage::Queued { job: old, .. }) => {
            new == old
        }
        (WorkerMessage::Progress(new), WorkerMessage::Progress(old)) => new.job == old.job,
        (WorkerMessage::Preview(new), WorkerMessage::Preview(old)) => new.job == old.job,
        _ => false,
    }
}

impl EventSink for Outbox {
    fn send(&self, job: JobId, event: Event) {
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
            Event::Preview(step, preview) => WorkerMessage::Preview(Preview {
                job,
                step,
                width: preview.width,
                height: preview.height,
                data: preview.rgb,
            }),
            Event::Failed(error) => WorkerMessage::Failed { job, error },
            Event::Cancelled => WorkerMessage::Cancelled { job },
            Event::Done(outcome, output) => {
                self.lock().push_result(job, outcome, output);
                self.ready.notify_one();
                return;
            }
        };
        self.push(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Latent, StepReport};
    use ovis_protocol::Outcome;

    fn outcome() -> Outcome {
        Outcome {
            seconds_queued: 0.0,
            seconds_running: 0.0,
            cuts: vec![],
        }
    }

    fn output(values: usize) -> Output {
        let latent = Latent::from_values(vec![1.5; values], &[1, 1, 1, values]);
        Output::latent(&latent.unwrap()).unwrap()
    }

    fn drain(outbox: &Outbox) -> Vec<WorkerMessage> {
        std::iter::from_fn(|| outbox.lock().pop()).collect()
    }

    #[test]
    fn a_slow_reader_sees_only_the_latest_progress_and_preview() {
        let outbox = Outbox::default();
        for step in 1..=1000 {
            let report = StepReport {
                step,
                total: 1000,
                sigma: 0.5,
            };
            outbox.send([1; 16], Event::Progress(report, 1.0));
            let preview = crate::pipeline::Preview {
                width: 1,
                height: 1,
                rgb: vec![0; 3],
            };
            outbox.send([1; 16], Event::Preview(step, preview));
        }
        let messages = drain(&outbox);
        assert!(matches!(
            &messages[..],
            [WorkerMessage::Progress(progress), WorkerMessage::Preview(preview)]
                if progress.step == 1000 && preview.step == 1000
        ));
    }

    #[test]
    fn other_messages_pass_between_chunks() {
        let outbox = Outbox::default();
        outbox.open_job([1; 16], 0).unwrap();
        outbox.send([1; 16], Event::Done(outcome(), output(CHUNK_VALUES + 1)));
        assert!(matches!(
            outbox.lock().pop(),
            Some(WorkerMessage::Done { .. })
        ));
        assert!(matches!(outbox.lock().pop(), Some(WorkerMessage::Chunk(_))));
        outbox.send([2; 16], Event::Started);
        assert!(outbox.has_job([1; 16]));
        let rest = drain(&outbox);
        assert!(matches!(
            &rest[..],
            [WorkerMessage::Started { .. }, WorkerMessage::Chunk(c)]
                if c.offset == MAX_CHUNK_BYTES as u64 && c.data.len() == 4
        ));
        assert!(!outbox.has_job([1; 16]));
    }

    #[test]
    fn jobs_and_their_bytes_are_bounded() {
        let outbox = Outbox::default();
        outbox.open_job([0; 16], MAX_TENSOR_BYTES - 1).unwrap();
        assert!(outbox.open_job([1; 16], 2).is_err());
        for i in 1..MAX_JOBS_PER_CONNECTION as u8 {
            outbox.open_job([i; 16], 0).unwrap();
        }
        assert!(outbox.open_job([99; 16], 0).is_err());
        outbox.send([0; 16], Event::Cancelled);
        drain(&outbox);
        outbox.open_job([99; 16], 2).unwrap();
    }

    #[test]
    fn unread_results_are_bounded() {
        let outbox = Outbox::default();
        outbox.lock().result_bytes = MAX_TENSOR_BYTES - 4;
        outbox.send([1; 16], Event::Done(outcome(), output(2)));
        let messages = drain(&outbox);
        assert!(matches!(&messages[..], [WorkerMessage::Failed { .. }]));
    }
}
