//! What waits to be sent on one connection.
//!
//! The engine puts events in without ever waiting; the connection's writer
//! takes messages out as fast as the client reads. Memory stays bounded: an
//! unsent position, progress or preview is replaced by its successor, results are cut
//! into chunks only as they are sent, results and previews count towards one budget of all
//! connections, and too many unread results fail.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ovis_protocol::limits::{MAX_CHUNK_BYTES, MAX_TENSOR_BYTES};
use ovis_protocol::{
    Chunk, DType, ErrorCode, JobId, Outcome, Preview, TensorHeader, WireError, WorkerMessage,
};
use tokio::sync::Notify;

use super::budget::{Account, Budget, Reader, Share};
use super::jobs::{Jobs, OpenJob};
use crate::engine::Output;

/// Most messages that wait before the connection stops reading requests.
const MAX_WAITING: usize = 1024;

/// Most previews that wait; a newer one takes the place of the oldest.
const MAX_PREVIEWS: usize = 4;

const CHUNK_VALUES: usize = MAX_CHUNK_BYTES / size_of::<f32>();

/// Why a connection is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The client sent what ends it. Unsent results are not sent any more.
    Refused,
    /// The worker ends. What waits is still sent.
    ShuttingDown,
}

/// One connection's outgoing messages.
pub struct Outbox {
    /// The connection's unfinished jobs.
    pub jobs: Arc<Jobs>,
    account: Account,
    inner: Mutex<Inner>,
    ready: Notify,
    taken: Notify,
    cut: Notify,
}

#[derive(Default)]
struct Inner {
    messages: VecDeque<Waiting>,
    results: VecDeque<Delivery>,
    result_bytes: u64,
    closing: Option<Closing>,
    /// Whether nothing is sent any more.
    abandoned: bool,
}

/// A message, and what is held until it is taken to be sent.
struct Waiting {
    message: WorkerMessage,
    _job: Option<OpenJob>,
    _share: Option<Share>,
}

/// A result of which `sent` values are on their way.
struct Delivery {
    job: JobId,
    output: Output,
    sent: usize,
    _open: Option<OpenJob>,
    _share: Share,
}

impl Outbox {
    /// An empty one whose results count towards `budget`.
    pub fn new(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            jobs: Arc::default(),
            account: budget.open(this.clone()),
            inner: Mutex::default(),
            ready: Notify::new(),
            taken: Notify::new(),
            cut: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message behind those that wait.
    pub fn push(&self, message: WorkerMessage) {
        self.push_with(message, None, None);
    }

    /// [Pushes](Self::push) a message that keeps a job open, and bytes taken, until it is sent.
    pub fn push_with(&self, message: WorkerMessage, job: Option<OpenJob>, share: Option<Share>) {
        let waiting = Waiting {
            message,
            _job: job,
            _share: share,
        };
        self.lock().push(waiting);
        self.ready.notify_one();
    }

    /// Lets no more in; what waits is still sent.
    pub fn close(&self, closing: Closing) {
        let mut inner = self.lock();
        inner.closing = Some(closing);
        if closing == Closing::Refused {
            inner.results.clear();
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// Why it was closed, if it was.
    pub fn closing(&self) -> Option<Closing> {
        self.lock().closing
    }

    /// Lets no more in and frees what waits.
    pub fn abandon(&self) {
        let mut inner = self.lock();
        inner.abandoned = true;
        let (messages, results) = (
            std::mem::take(&mut inner.messages),
            std::mem::take(&mut inner.results),
        );
        drop(inner);
        drop((messages, results));
        self.ready.notify_one();
        self.taken.notify_one();
    }

    /// Waits until the connection has to end because others need the room.
    pub async fn was_cut(&self) {
        self.cut.notified().await;
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
                if inner.closing.is_some() || inner.abandoned {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }

    /// Notes that the client has read a message, or its system has.
    pub fn has_sent(&self) {
        self.account.has_read();
    }

    /// Waits until so few messages wait that more requests may be read.
    pub async fn has_room(&self) {
        while self.lock().messages.len() >= MAX_WAITING {
            self.taken.notified().await;
        }
    }

    /// Puts a result behind those that wait, or tells that there is no room for it.
    pub fn push_result(&self, job: JobId, open: Option<OpenJob>, outcome: Outcome, output: Output) {
        let bytes = (output.len() * size_of::<f32>()) as u64;
        let refuse = |code, message: String, hint: &str, open| {
            let error = WireError::new(code, message, hint);
            self.push_with(WorkerMessage::Failed { job, error }, open, None);
        };
        if output.is_empty() || bytes > MAX_TENSOR_BYTES {
            let message = format!("The result of {bytes} bytes cannot be sent.");
            return refuse(
                ErrorCode::Internal,
                message,
                "Use a smaller batch or size.",
                open,
            );
        }
        let waiting = self.lock().result_bytes;
        // Only the engine adds results, one at a time, so there is no more by the push.
        let share = match waiting + bytes > MAX_TENSOR_BYTES {
            true => None,
            false => self.account.take(bytes),
        };
        let Some(share) = share else {
            return refuse(
                ErrorCode::QueueFull,
                format!(
                    "There is no room to keep a result of {bytes} bytes until it is read; {waiting} \
                     bytes wait for this client already."
                ),
                "Read results while submitting jobs, or try again.",
                open,
            );
        };
        let done = WorkerMessage::Done {
            job,
            outcome,
            tensors: vec![TensorHeader::new(output.name, DType::F32, output.shape())],
        };
        let delivery = Delivery {
            job,
            output,
            sent: 0,
            _open: open,
            _share: share,
        };
        self.lock().push_result(done, bytes, delivery);
        self.ready.notify_one();
    }

    /// Puts a preview behind what waits, if there is room.
    pub fn push_preview(&self, preview: Preview) {
        // A client can do without.
        if let Some(share) = self.account.take_if_free(preview.data.len() as u64) {
            self.push_with(WorkerMessage::Preview(preview), None, Some(share));
        }
    }
}

impl Reader for Outbox {
    fn cut(&self) {
        self.abandon();
        self.cut.notify_one();
    }
}

impl Inner {
    fn is_open(&self) -> bool {
        self.closing.is_none() && !self.abandoned
    }

    fn push(&mut self, waiting: Waiting) {
        if !self.is_open() {
            return;
        }
        let message = &waiting.message;
        if let Some(old) = self
            .messages
            .iter_mut()
            .find(|old| supersedes(message, &old.message))
        {
            *old = waiting;
            return;
        }
        let is_preview = |w: &Waiting| matches!(w.message, WorkerMessage::Preview(_));
        if is_preview(&waiting)
            && self.messages.iter().filter(|w| is_preview(w)).count() >= MAX_PREVIEWS
        {
            let oldest = self.messages.iter().position(is_preview);
            oldest.and_then(|at| self.messages.remove(at));
        }
        self.messages.push_back(waiting);
    }

    fn pop(&mut self) -> Option<WorkerMessage> {
        if let Some(waiting) = self.messages.pop_front() {
            return Some(waiting.message);
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
            self.results.pop_front();
        }
        Some(WorkerMessage::Chunk(chunk))
    }

    fn push_result(&mut self, done: WorkerMessage, bytes: u64, delivery: Delivery) {
        if !self.is_open() {
            return;
        }
        self.result_bytes += bytes;
        self.messages.push_back(Waiting {
            message: done,
            _job: None,
            _share: None,
        });
        self.results.push_back(delivery);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Event, EventSink};
    use crate::pipeline::{Latent, StepReport};
    use crate::server::sink::JobSink;
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

    fn outbox() -> Arc<Outbox> {
        Outbox::new(&Budget::new(u64::MAX))
    }

    fn sink(outbox: &Arc<Outbox>, job: JobId) -> JobSink {
        let open = outbox.jobs.open(job, 0).unwrap();
        JobSink::new(outbox.clone(), open)
    }

    fn drain(outbox: &Outbox) -> Vec<WorkerMessage> {
        std::iter::from_fn(|| outbox.lock().pop()).collect()
    }

    fn preview(side: u32) -> crate::pipeline::Preview {
        crate::pipeline::Preview {
            width: side,
            height: side,
            rgb: vec![0; 3 * (side * side) as usize],
        }
    }

    #[test]
    fn a_slow_reader_sees_only_the_latest_progress_and_preview() {
        let outbox = outbox();
        let sink = sink(&outbox, [1; 16]);
        for step in 1..=1000 {
            let report = StepReport {
                step,
                total: 1000,
                sigma: 0.5,
            };
            sink.send([1; 16], Event::Progress(report, 1.0));
            sink.send([1; 16], Event::Preview(step, preview(1)));
        }
        let messages = drain(&outbox);
        assert!(matches!(
            &messages[..],
            [WorkerMessage::Progress(progress), WorkerMessage::Preview(preview)]
                if progress.step == 1000 && preview.step == 1000
        ));
    }

    #[test]
    fn previews_of_many_jobs_stay_few() {
        let budget = Budget::new(1000);
        let outbox = Outbox::new(&budget);
        for job in 0..9 {
            sink(&outbox, [job; 16]).send([job; 16], Event::Preview(1, preview(8)));
        }
        assert_eq!(budget.used(), MAX_PREVIEWS as u64 * 192);
        sink(&outbox, [9; 16]).send([9; 16], Event::Preview(1, preview(16)));
        let messages = drain(&outbox);
        assert_eq!(messages.len(), MAX_PREVIEWS, "no room for a large one");
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn other_messages_pass_between_chunks() {
        let outbox = outbox();
        let first = sink(&outbox, [1; 16]);
        first.send([1; 16], Event::Done(outcome(), output(CHUNK_VALUES + 1)));
        assert!(matches!(
            outbox.lock().pop(),
            Some(WorkerMessage::Done { .. })
        ));
        assert!(matches!(outbox.lock().pop(), Some(WorkerMessage::Chunk(_))));
        sink(&outbox, [2; 16]).send([2; 16], Event::Started);
        assert!(outbox.jobs.has([1; 16]));
        let rest = drain(&outbox);
        assert!(matches!(
            &rest[..],
            [WorkerMessage::Started { .. }, WorkerMessage::Chunk(c)]
                if c.offset == MAX_CHUNK_BYTES as u64 && c.data.len() == 4
        ));
        assert!(!outbox.jobs.has([1; 16]));
    }

    #[test]
    fn a_job_ends_once() {
        let events = || {
            let error = WireError::new(ErrorCode::Internal, "late", "");
            [
                Event::Failed(error),
                Event::Done(outcome(), output(2)),
                Event::Cancelled,
            ]
        };
        for first in events() {
            let outbox = outbox();
            let sink = sink(&outbox, [1; 16]);
            sink.send([1; 16], first);
            let ends = drain(&outbox).len();
            for late in events().into_iter().chain([Event::Started]) {
                sink.send([1; 16], late);
            }
            assert!(ends > 0);
            assert!(drain(&outbox).is_empty());
        }
    }

    #[test]
    fn unread_results_are_bounded() {
        let outbox = outbox();
        let done = || Event::Done(outcome(), output(2));
        outbox.lock().result_bytes = MAX_TENSOR_BYTES - 4;
        sink(&outbox, [1; 16]).send([1; 16], done());
        let messages = drain(&outbox);
        assert!(matches!(&messages[..], [WorkerMessage::Failed { .. }]));

        let budget = Budget::new(8);
        let (first, second) = (Outbox::new(&budget), Outbox::new(&budget));
        sink(&first, [1; 16]).send([1; 16], done());
        sink(&second, [2; 16]).send([2; 16], done());
        assert!(matches!(
            &drain(&second)[..],
            [WorkerMessage::Failed { .. }]
        ));
        first.cut();
        assert!(drain(&first).is_empty() && budget.used() == 0);
        sink(&second, [3; 16]).send([3; 16], done());
        assert_eq!(drain(&second).len(), 2);
    }
}
