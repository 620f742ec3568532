//! What is sent next on one connection.
//!
//! Jobs' events and results wait in the store, in bounded memory; the connection's own
//! messages wait here. Both are stamped, so they are sent in the order in which they came
//! about. A result or a state is cut into chunks only as they are sent, and only while no
//! message waits, so that a large one delays nothing else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ovis_protocol::limits::MAX_CHUNK_BYTES;
use ovis_protocol::{Chunk, ErrorCode, JobId, StatePart, WorkerMessage};
use tokio::sync::Notify;

use super::events::message;
use crate::jobs::{Delivered, Event, JobKey, Subscription};

/// Most own messages that wait before the connection reads no more requests: back-pressure for
/// a client that asks and does not read the answers.
const MAX_WAITING: usize = 1024;

/// Values of a result in one chunk.
const CHUNK_VALUES: usize = MAX_CHUNK_BYTES / size_of::<f32>();

/// Why a connection is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The client sent something that ends the connection. Unsent results are dropped.
    Refused,
    /// The worker ends. What waits is still sent.
    ShuttingDown,
}

/// One connection's outgoing messages.
pub struct Sender {
    subscription: Subscription,
    inner: Mutex<Inner>,
    taken: Notify,
}

#[derive(Default)]
struct Inner {
    /// The connection's own messages, with their stamps.
    messages: VecDeque<(u64, WorkerMessage)>,
    /// Results whose `Done` was sent, and states, in that order.
    large: VecDeque<Sending>,
    closing: Option<Closing>,
    /// Whether nothing is sent any more.
    is_abandoned: bool,
}

/// How much of a result or a state is sent.
struct Sending {
    key: JobKey,
    job: JobId,
    what: Large,
    /// Of a result, values; of a state, bytes.
    sent: usize,
    /// What is sent behind it.
    then: Option<WorkerMessage>,
}

/// What is sent in chunks.
enum Large {
    /// A result of so many values, which the store keeps.
    Result(usize),
    /// A state after so many steps.
    State(u32, Arc<[u8]>),
}

impl Sender {
    /// Sends what comes from a subscription, and own messages.
    pub fn new(subscription: Subscription) -> Self {
        Self {
            subscription,
            inner: Mutex::default(),
            taken: Notify::new(),
        }
    }

    /// Where the jobs' events come from.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an own message behind everything that waits.
    pub fn push(&self, message: WorkerMessage) {
        let mut inner = self.lock();
        if inner.is_open() {
            let stamp = self.subscription.wake().stamp();
            inner.messages.push_back((stamp, message));
        }
        drop(inner);
        self.subscription.wake().notify();
    }

    /// Accepts no more messages and events. What waits is still sent.
    pub fn close(&self, closing: Closing) {
        let mut inner = self.lock();
        inner.closing = Some(closing);
        self.subscription.close();
        if closing == Closing::Refused {
            inner.large.clear();
        }
        drop(inner);
        self.subscription.wake().notify();
    }

    /// Why the connection is being closed, if it is.
    pub fn closing(&self) -> Option<Closing> {
        self.lock().closing
    }

    /// Accepts nothing more and frees what waits.
    pub fn abandon(&self) {
        let mut inner = self.lock();
        inner.is_abandoned = true;
        let messages = std::mem::take(&mut inner.messages);
        let large = std::mem::take(&mut inner.large);
        drop(inner);
        drop((messages, large));
        self.subscription.abandon();
        self.subscription.wake().notify();
        self.taken.notify_one();
    }

    /// Waits until the client is evicted because others need the memory.
    pub async fn evicted(&self) {
        self.subscription.wake().evicted().await;
    }

    /// The next message to send; `None` once closed and empty, or evicted.
    pub async fn next(&self) -> Option<WorkerMessage> {
        loop {
            if self.subscription.wake().is_evicted() {
                return None;
            }
            // Asked first: once closed, no event comes that `take` could miss.
            let is_open = self.lock().is_open();
            if let Some(message) = self.take() {
                self.taken.notify_one();
                return Some(message);
            }
            if !is_open {
                return None;
            }
            self.subscription.wake().ready().await;
        }
    }

    fn take(&self) -> Option<WorkerMessage> {
        let mut inner = self.lock();
        let own = inner.messages.front().map(|(stamp, _)| *stamp);
        while let Some(delivered) = self.subscription.next(own) {
            if let Some(message) = inner.delivered(delivered) {
                return Some(message);
            }
        }
        if let Some((_, message)) = inner.messages.pop_front() {
            return Some(message);
        }
        while let Some(mut sending) = inner.large.pop_front() {
            // A result that is gone, or that another connection has claimed, is not sent on.
            match sending.next(&self.subscription) {
                Some(message) => {
                    inner.large.push_front(sending);
                    return Some(message);
                }
                None if sending.then.is_some() => return sending.then,
                None => {}
            }
        }
        None
    }

    /// Notes that the client, or its system, has read a message.
    pub fn note_sent(&self) {
        self.subscription.note_read();
    }

    /// Waits until so few messages wait that more requests may be read.
    pub async fn has_room(&self) {
        while self.lock().messages.len() >= MAX_WAITING {
            self.taken.notified().await;
        }
    }
}

impl Inner {
    fn is_open(&self) -> bool {
        self.closing.is_none() && !self.is_abandoned
    }

    /// An event's message, if it has one of its own. The parts of a result or a state follow,
    /// unless the connection was refused. What was still to be sent of the same job is obsolete.
    fn delivered(&mut self, delivered: Delivered) -> Option<WorkerMessage> {
        let Delivered {
            job: key,
            id,
            event,
            skip,
        } = delivered;
        let job = id.into_bytes();
        let large = match &event {
            Event::Done(_, output) => Some((Large::Result(output.len()), skip)),
            Event::State(step, state) => Some((Large::State(*step, state.clone()), 0)),
            _ => None,
        };
        if let Event::Failed(error) = &event {
            // The last state of a job that the worker's end interrupts comes before its end.
            let mut states = self.large.iter_mut();
            let state = states.find(|sending| sending.key == key);
            if let (Some(state), ErrorCode::ShuttingDown) = (state, error.code) {
                state.then = message(job, event);
                return None;
            }
        }
        if large.is_some() || event.is_end() {
            self.large.retain(|sending| sending.key != key);
        }
        if let Some((what, sent)) = large {
            if self.closing != Some(Closing::Refused) && sent < what.len() {
                self.large.push_back(Sending {
                    key,
                    job,
                    what,
                    sent,
                    then: None,
                });
            }
        }
        message(job, event)
    }
}

impl Large {
    fn len(&self) -> usize {
        match self {
            Self::Result(values) => *values,
            Self::State(_, bytes) => bytes.len(),
        }
    }
}

impl Sending {
    /// The next part. `None` after the last one, or if the result is gone.
    fn next(&mut self, subscription: &Subscription) -> Option<WorkerMessage> {
        let all = self.what.len();
        if self.sent >= all {
            return None;
        }
        let most = match self.what {
            Large::Result(_) => CHUNK_VALUES,
            Large::State(..) => MAX_CHUNK_BYTES,
        };
        let (from, to) = (self.sent, (self.sent + most).min(all));
        self.sent = to;
        Some(match &self.what {
            Large::Result(_) => WorkerMessage::Chunk(Chunk {
                job: self.job,
                tensor: 0,
                offset: (from * size_of::<f32>()) as u64,
                data: subscription.read(self.key, from..to)?,
            }),
            Large::State(step, bytes) => WorkerMessage::State(StatePart {
                job: self.job,
                step: *step,
                size: bytes.len() as u64,
                offset: from as u64,
                data: bytes[from..to].to_vec(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use futures_util::FutureExt;
    use ovis_protocol::{JobOptions, Outcome, WireError};
    use uuid::Uuid;

    use super::*;
    use crate::jobs::{
        testing, Client, Content, Free, Jobs, Limits, Model, ModelList, Next, Owner, Submission,
        Ticket, Wanted, Work,
    };
    use crate::pipeline::{Ask, Budget, Latent, Output};

    /// A client whose device is this test.
    struct Connection {
        jobs: Jobs,
        sender: Sender,
        client: Client,
    }

    fn latent(values: usize) -> Latent {
        Latent::from_values(vec![1.5; values], &[1, 1, 1, values]).unwrap()
    }

    fn done(values: usize) -> Event {
        let outcome = Outcome {
            seconds_queued: 0.0,
            seconds_running: 0.0,
            cuts: vec![],
        };
        Event::Done(outcome, Output::latent(&latent(values)).unwrap())
    }

    fn refused() -> WorkerMessage {
        WorkerMessage::Refused {
            magic: 0,
            protocol: 0,
            error: WireError::new(ErrorCode::BadMessage, "", ""),
        }
    }

    fn id(job: u8) -> Uuid {
        Uuid::from_bytes([job; 16])
    }

    impl Connection {
        fn new() -> Self {
            let model = Model::new("test", testing::capabilities(), Arc::new(Free), 0);
            let jobs = Jobs::new(
                Limits::default(),
                ModelList::new(model, []),
                Budget::OneMemory(None),
            );
            let sender = Sender::new(jobs.subscribe());
            let owner = Owner::new(Ipv4Addr::LOCALHOST.into(), "test");
            let client = Client::new(jobs.clone(), sender.subscription(), owner);
            Self {
                jobs,
                sender,
                client,
            }
        }

        /// Submits a job and begins it on the device.
        fn started(&self, job: u8) -> Ticket {
            let ask = Ask::Decode {
                latent: [1, 16, 2, 2],
            };
            let admitted = self
                .client
                .admit(id(job), self.jobs.models().default_model(), 0, ask, 0)
                .unwrap();
            let submission = Submission {
                work: Work::Decode(latent(1)),
                options: JobOptions::default(),
                content: Content::default(),
                is_journaled: false,
            };
            self.client.submit(admitted, submission).unwrap();
            match self.jobs.next(&Wanted::Any) {
                Next::Job(job) => job.ticket,
                _ => panic!("the job is not next"),
            }
        }

        /// What is sent until nothing is left.
        fn drain(&self) -> Vec<WorkerMessage> {
            std::iter::from_fn(|| self.sender.next().now_or_never().flatten()).collect()
        }
    }

    #[test]
    fn other_messages_pass_between_chunks() {
        let connection = Connection::new();
        let first = connection.started(1);
        connection.drain();
        connection.jobs.end(&first, done(CHUNK_VALUES + 1));
        let next = || connection.sender.next().now_or_never().flatten();
        assert!(matches!(next(), Some(WorkerMessage::Done { .. })));
        assert!(matches!(next(), Some(WorkerMessage::Chunk(_))));
        connection.started(2);
        connection.sender.push(refused());
        assert!(connection.client.has(id(1)));
        let rest = connection.drain();
        assert!(
            matches!(
                &rest[..],
                [
                    WorkerMessage::Queued { .. },
                    WorkerMessage::Started { .. },
                    WorkerMessage::Refused { .. },
                    WorkerMessage::Chunk(c)
                ] if c.offset == MAX_CHUNK_BYTES as u64 && c.data.len() == 4
            ),
            "{rest:?}"
        );
        assert!(connection.client.has(id(1)) && connection.client.has(id(2)));
        connection.client.acknowledge(id(1));
        assert!(!connection.client.has(id(1)) && connection.client.has(id(2)));
    }

    #[test]
    fn own_messages_and_events_keep_their_order() {
        let connection = Connection::new();
        connection.sender.push(refused());
        let job = connection.started(1);
        connection.sender.push(refused());
        connection.jobs.end(&job, Event::Cancelled);
        let sent = connection.drain();
        assert!(
            matches!(
                &sent[..],
                [
                    WorkerMessage::Refused { .. },
                    WorkerMessage::Queued { .. },
                    WorkerMessage::Started { .. },
                    WorkerMessage::Refused { .. },
                    WorkerMessage::Cancelled { .. }
                ]
            ),
            "{sent:?}"
        );
    }

    #[test]
    fn a_closed_connection_sends_what_waits_and_a_refused_one_no_results() {
        for closing in [Closing::ShuttingDown, Closing::Refused] {
            let connection = Connection::new();
            let [first, second] = [1, 2].map(|job| connection.started(job));
            connection.drain();
            connection.jobs.end(&first, done(2));
            connection.sender.push(refused());
            connection.sender.close(closing);
            connection.jobs.end(&second, done(2));
            connection.sender.push(refused());
            let sent = connection.drain();
            let chunks = |m: &&WorkerMessage| matches!(m, WorkerMessage::Chunk(_));
            let expected = usize::from(closing == Closing::ShuttingDown);
            assert_eq!(sent.iter().filter(chunks).count(), expected, "{sent:?}");
            assert_eq!(sent.len(), 2 + expected, "{sent:?}");
            // What is not acknowledged is kept, for a lasting owner's next connection.
            assert_eq!(connection.jobs.kept().bytes, 16);
            connection.sender.abandon();
            assert_eq!(connection.jobs.kept().bytes, 0);
            assert_eq!(
                connection.sender.next().now_or_never().map(|m| m.is_none()),
                Some(true)
            );
        }
    }
}
