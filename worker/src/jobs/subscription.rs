//! A client's reading side of the store.

use std::ops::Range;
use std::sync::Arc;

use super::id::{ClientId, JobKey};
use super::owner::Owner;
use super::store::{Attached, Delivered, JobStore, Wake};

/// Reads the events and results of the jobs that one client submitted or claimed. Dropping it
/// leaves them to other clients of the owner.
pub struct Subscription {
    store: Arc<dyn JobStore>,
    client: ClientId,
    wake: Arc<Wake>,
}

impl Subscription {
    /// A new client's reading side, to which nothing comes until it is
    /// [attached](Self::attach).
    pub(super) fn new(store: Arc<dyn JobStore>, client: ClientId) -> Self {
        Self {
            store,
            client,
            wake: Arc::default(),
        }
    }

    /// Lets the client speak for an owner.
    pub(super) fn attach(&self, owner: &Owner) -> Attached {
        let client = (self.client, self.wake.clone());
        self.store.attach(owner, Some(client))
    }

    /// The client's number.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Where the reader waits for events, and stamps its own messages.
    pub fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Takes the earliest unread event, if its stamp is below `before`.
    pub fn next(&self, before: Option<u64>) -> Option<Delivered> {
        self.store.next(self.client, before)
    }

    /// Reads a range of the values of a job's result, as little-endian bytes. `None` if the
    /// result is no longer there, or another client has claimed the job.
    pub fn read(&self, job: JobKey, values: Range<usize>) -> Option<Vec<u8>> {
        self.store.read(self.client, job, values)
    }

    /// Notes that the client has read something just now.
    pub fn note_read(&self) {
        self.store.note_read(self.client);
    }

    /// Takes no more events. What is stored can still be read.
    pub fn close(&self) {
        self.store.close(self.client);
    }

    /// Takes no more events and leaves the jobs to other clients of the owner.
    pub fn abandon(&self) {
        self.store.detach(self.client);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.abandon();
    }
}
