//! A reserved place in the queue.

use std::sync::Arc;

use uuid::Uuid;

use super::id::OwnerNumber;
use super::state::Shared;

/// A queue place and a UUID, reserved for a job whose tensors are still arriving. Dropping it
/// gives both back, unless the job has been queued there or was submitted anew.
pub(super) struct Place {
    shared: Arc<Shared>,
    pub owner: OwnerNumber,
    pub id: Uuid,
    /// The job's number.
    pub number: u64,
}

impl Place {
    /// Stands for the place that was reserved for a job in the shared state.
    pub fn new(shared: Arc<Shared>, owner: OwnerNumber, id: Uuid, number: u64) -> Self {
        Self {
            shared,
            owner,
            id,
            number,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().release(self.owner, self.id, self.number);
    }
}
