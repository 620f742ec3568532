//! What is sent next on one connection.
//!
//! Jobs' events and results wait in the store, in bounded memory; the connection's own
//! messages wait here. Both are stamped, so they are sent in the order in which they came
//! about. A result's chunks are cut only as they are sent, and only while no message waits, so
//! that a large result delays nothing else.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ovis_protocol::limits::MAX_CHUNK_BYTES;
use ovis_protocol::{Chunk, JobId, WorkerMessage};
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
    /// Results whose `Done` was sent, in that order.
    results: VecDeque<Sending>,
    closing: Option<Closing>,
    /// Whether nothing is sent any more.
    is_abandoned: bool,
}

/// How much of a result is sent.
struct Sending {
    key: JobKey,
    job: JobId,
    values: usize,
    sent: usize,
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
            inner.results.clear();
            self.subscription.discard_results();
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
        inner.results.clear();
        drop(inner);
        drop(messages);
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
        if let Some(delivered) = self.subscription.next(own) {
            return Some(inner.delivered(delivered));
        }
        if let Some((_, message)) = inner.messages.pop_front() {
            return Some(message);
        }
        let sending = inner.results.front_mut()?;
        let offset = (sending.sent * size_of::<f32>()) as u64;
        let end = (sending.sent + CHUNK_VALUES).min(sending.values);
        let data = self.subscription.read(sending.key, sending.sent..end)?;
        let job = sending.job;
        sending.sent = end;
        if end == sending.values {
            inner.results.pop_front();
        }
        Some(WorkerMessage::Chunk(Chunk {
            job,
            tensor: 0,
            offset,
            data,
        }))
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

    /// An event's message. A result's chunks follow, unless the connection was refused.
    fn delivered(&mut self, delivered: Delivered) -> WorkerMessage {
        let Delivered {
            job: key,
            id,
            event,
        } = delivered;
        let job = id.into_bytes();
        if let Event::Done(_, output) = &event {
            if self.closing != Some(Closing::Refused) {
                self.results.push_back(Sending {
                    key,
                    job,
                    values: output.len(),
                    sent: 0,
                });
            }
        }
        message(job, event)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use futures_util::FutureExt;
    use ovis_protocol::{ErrorCode, Outcome, WireError};
    use uuid::Uuid;

    use super::*;
    use crate::jobs::{
        testing, Client, Free, Jobs, Limits, Model, Next, Owner, Ticket, Wanted, Work,
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
            let model = Model {
                name: "test".into(),
                capabilities: testing::capabilities(),
                costs: Arc::new(Free),
            };
            let jobs = Jobs::new(Limits::default(), model, Budget::OneMemory(None));
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
            let admitted = self.client.admit(id(job), 0, ask).unwrap();
            let work = Work::Decode(latent(1));
            self.client.submit(admitted, work).unwrap();
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
            assert_eq!(connection.jobs.unread_bytes(), 0);
            assert_eq!(
                connection.sender.next().now_or_never().map(|m| m.is_none()),
                Some(true)
            );
        }
    }
}
