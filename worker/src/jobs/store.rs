//! Where jobs' events and results wait for their clients: the trait, and how its reader is
//! woken.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use tokio::sync::Notify;
use uuid::Uuid;

use super::event::Event;
use super::id::{ClientId, JobKey};
use super::open::OpenJob;

/// Keeps jobs' events and results until their clients have read them.
///
/// Memory is bounded however slowly a client reads: of a job's unread positions, progress and
/// previews only the latest is kept, and a result for which there is no room becomes a
/// `Failed` event. Methods never wait for a client. They are called from the device's thread
/// and with the lock of [`Jobs`](super::Jobs) held, so they must not call back into it.
/// A client or job that the store does not know is ignored.
pub trait JobStore: Send + Sync {
    /// Begins to keep events for a client, whose reader waits at `wake`.
    fn subscribe(&self, client: ClientId, wake: Arc<Wake>);

    /// Forgets a client and frees everything that it has not read.
    fn unsubscribe(&self, client: ClientId);

    /// Takes no more events for a client. What is stored can still be read.
    fn close(&self, client: ClientId);

    /// Frees a client's unread results, but not its unread events.
    fn discard_results(&self, client: ClientId);

    /// Begins a job's log. `open` is dropped once the job's last event, and its result if it
    /// has one, have been read.
    fn put(&self, job: JobKey, id: Uuid, open: OpenJob);

    /// Adds an event to a job's log. After the event that ends the job, nothing is added.
    fn append(&self, job: JobKey, event: Event);

    /// Takes a client's earliest unread event, if its stamp is below `before`.
    fn next(&self, client: ClientId, before: Option<u64>) -> Option<Delivered>;

    /// Reads a range of the values of a job's result, as little-endian bytes. Reading the last
    /// value frees the result. `None` if the result is no longer there.
    fn read(&self, job: JobKey, values: Range<usize>) -> Option<Vec<u8>>;

    /// Notes that a client has read something just now, so that it does not count as stalled.
    fn note_read(&self, client: ClientId);

    /// Bytes of results and previews that all clients have not read.
    fn unread_bytes(&self) -> u64;
}

/// An event as a client reads it.
#[derive(Debug)]
pub struct Delivered {
    /// The job's key, to [`read`](JobStore::read) its result.
    pub job: JobKey,
    /// The job's UUID.
    pub id: Uuid,
    /// What happened.
    pub event: Event,
}

/// What a store and the reader of one client's events share.
#[derive(Default)]
pub struct Wake {
    clock: AtomicU64,
    ready: Notify,
    evicted: AtomicBool,
    eviction: Notify,
}

impl Wake {
    /// The next stamp. Events are stamped when they are stored, so the reader can order its
    /// own messages among them.
    pub fn stamp(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Wakes the reader: there is something to read.
    pub fn notify(&self) {
        self.ready.notify_one();
    }

    /// Tells the reader that its client was evicted to free memory for others.
    pub fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        self.eviction.notify_one();
        self.ready.notify_one();
    }

    /// Whether the client was evicted.
    pub fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    /// Waits for [`notify`](Self::notify) or [`evict`](Self::evict). A call that came while
    /// nobody waited counts.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Waits for [`evict`](Self::evict).
    pub async fn evicted(&self) {
        self.eviction.notified().await;
    }
}
