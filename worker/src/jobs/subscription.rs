//! A client's reading side of the store.

use std::ops::Range;
use std::sync::Arc;

use super::id::{ClientId, JobKey};
use super::store::{Delivered, JobStore, Wake};

/// Reads the events and results of one client's jobs. Dropping it frees what was not read.
pub struct Subscription {
    store: Arc<dyn JobStore>,
    client: ClientId,
    wake: Arc<Wake>,
}

impl Subscription {
    /// Subscribes a new client.
    pub(super) fn new(store: Arc<dyn JobStore>, client: ClientId) -> Self {
        let wake = Arc::new(Wake::default());
        store.subscribe(client, wake.clone());
        Self {
            store,
            client,
            wake,
        }
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

    /// Reads a range of the values of a job's result, as little-endian bytes. Reading the last
    /// value frees the result. `None` if the result is no longer there.
    pub fn read(&self, job: JobKey, values: Range<usize>) -> Option<Vec<u8>> {
        self.store.read(job, values)
    }

    /// Notes that the client has read something just now.
    pub fn note_read(&self) {
        self.store.note_read(self.client);
    }

    /// Takes no more events. What is stored can still be read.
    pub fn close(&self) {
        self.store.close(self.client);
    }

    /// Frees unread results, but not unread events.
    pub fn discard_results(&self) {
        self.store.discard_results(self.client);
    }

    /// Takes no more events and frees what was not read.
    pub fn abandon(&self) {
        self.store.unsubscribe(self.client);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.abandon();
    }
}
