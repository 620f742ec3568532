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
            if let Some(message) = self.take() {
                self.taken.notify_one();
                return Some(message);
            }
            if !self.lock().is_open() {
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
