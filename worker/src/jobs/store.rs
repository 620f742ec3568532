//! Where jobs' events and results wait for their owners: the trait, and how its reader is
//! woken.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use uuid::Uuid;

use super::content::Content;
use super::event::Event;
use super::id::{ClientId, JobKey, OwnerNumber};
use super::open::{OpenJob, OpenJobs};
use super::owner::{Owner, OwnerId};

/// Keeps jobs' events and results until their owners have acknowledged them.
///
/// Events of a job go to one client, its reader: the connection that submitted or claimed it
/// last. Memory is bounded however slowly a client reads: of a job's unread positions,
/// progress, previews and states only the latest is kept, and a result for which there is no
/// room becomes a `Failed` event. Methods never wait for a client. They are called from the
/// device's thread and with the lock of [`Jobs`](super::Jobs) held, so they must not call back
/// into it. A client or job that the store does not know is ignored.
pub trait JobStore: Send + Sync {
    /// Makes an owner known, with the client that speaks for it. Without a client, the owner is
    /// away.
    fn attach(&self, owner: &Owner, client: Option<(ClientId, Arc<Wake>)>) -> Attached;

    /// Forgets a client. The jobs of a lasting owner go on without a reader; those of another
    /// are forgotten too.
    fn detach(&self, client: ClientId);

    /// Takes no more events for a client. What is stored can still be read.
    fn close(&self, client: ClientId);

    /// Begins a job's log.
    fn put(&self, job: JobKey, new: NewJob);

    /// Adds an event to a job's log. After the event that ends the job, nothing is added.
    fn append(&self, job: JobKey, event: Event);

    /// Takes a client's earliest unread event, if its stamp is below `before`.
    fn next(&self, client: ClientId, before: Option<u64>) -> Option<Delivered>;

    /// Reads a range of the values of a job's result, as little-endian bytes. `None` if the
    /// result is no longer there, or the client is no longer the job's reader.
    fn read(&self, client: ClientId, job: JobKey, values: Range<usize>) -> Option<Vec<u8>>;

    /// A job of a client's owner by its UUID.
    fn find(&self, client: ClientId, id: Uuid) -> Option<Found>;

    /// Makes a client the reader of a job of its owner, and tells it the job's present state
    /// again. Of a result, the first `skip` values are left out.
    fn claim(&self, client: ClientId, job: JobKey, skip: usize);

    /// Forgets a job of a client's owner that has ended, and says whose it was.
    fn acknowledge(&self, client: ClientId, id: Uuid) -> Option<OwnerId>;

    /// Notes that a client has read something just now, so that it does not count as stalled.
    fn note_read(&self, client: ClientId);

    /// Forgets jobs that ended longer ago than `keep` before `now`, and says which unfinished
    /// jobs' owners have been away for as long.
    fn sweep(&self, now: Instant, keep: Duration) -> Swept;

    /// What is kept at present.
    fn kept(&self) -> Kept;
}

/// A job as its log begins.
pub struct NewJob {
    /// The job's UUID.
    pub id: Uuid,
    /// The client that its events go to at first.
    pub reader: Option<ClientId>,
    /// What the job was asked to do, to compare a second submission with.
    pub content: Content,
    /// How long ago the job ended, if it is known only from its end.
    pub age: Duration,
    /// Dropped once the job is forgotten.
    pub open: OpenJob,
}

/// An owner as the store knows it.
pub struct Attached {
    /// The owner's number.
    pub owner: OwnerNumber,
    /// The owner's unfinished jobs.
    pub open: Arc<OpenJobs>,
}

/// A job that was found by its UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The job.
    pub job: JobKey,
    /// What it was asked to do.
    pub content: Content,
    /// Whether the client that asks is its reader.
    pub is_read_here: bool,
    /// Number of values of its result, if it is done.
    pub values: Option<usize>,
}

/// What [`sweep`](JobStore::sweep) found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Unfinished jobs whose owner has been away for too long.
    pub abandoned: Vec<JobKey>,
    /// Ended jobs that were forgotten: their owners and UUIDs.
    pub forgotten: Vec<(OwnerId, Uuid)>,
}

/// What a store keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Bytes of results, previews and states.
    pub bytes: u64,
    /// Most bytes of these.
    pub limit: u64,
    /// Jobs that have ended and were not acknowledged.
    pub ended: usize,
    /// Owners that have jobs and no connection.
    pub away: usize,
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
    /// Number of values of the result that the client already has.
    pub skip: usize,
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
