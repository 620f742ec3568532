//! A reserved place in the queue.

use std::sync::Arc;

use uuid::Uuid;

use super::owner::Owner;
use super::state::Shared;

/// A queue place and a UUID, reserved for a job whose tensors are still arriving. Dropping it
/// gives both back, unless the job has been queued there.
pub(super) struct Place {
    shared: Arc<Shared>,
    pub owner: Owner,
    pub id: Uuid,
}

impl Place {
    /// Stands for the place that was reserved for `id` in the shared state.
    pub fn new(shared: Arc<Shared>, owner: Owner, id: Uuid) -> Self {
        Self { shared, owner, id }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.reserved.remove(&self.id) {
            state.queue.release(&self.owner);
        }
    }
}
