//! One client's calls.

use std::sync::Arc;

use ovis_protocol::WireError;
use uuid::Uuid;

use super::admission::Reservation;
use super::event::Event;
use super::id::ClientId;
use super::open::{OpenJob, OpenJobs};
use super::owner::Owner;
use super::place::Place;
use super::service::Jobs;
use super::subscription::Subscription;
use super::work::Work;
use crate::pipeline::Ask;

/// A client that may submit jobs. Dropping it cancels the jobs it still has.
pub struct Client {
    jobs: Jobs,
    id: ClientId,
    owner: Owner,
    open: Arc<OpenJobs>,
}

/// An admitted job whose tensors are still arriving. It holds a queue place, the job's memory
/// and a place among its client's unfinished jobs.
pub struct Admitted {
    place: Place,
    open: OpenJob,
    reservation: Reservation,
}

impl Client {
    /// The client whose jobs belong to `owner`, and whose events go to `subscription`.
    pub fn new(jobs: Jobs, subscription: &Subscription, owner: Owner) -> Self {
        Self {
            jobs,
            id: subscription.client(),
            owner,
            open: Arc::default(),
        }
    }

    /// The client's number.
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// The jobs of all clients.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Whether the client has an unfinished job with this UUID.
    pub fn has(&self, job: Uuid) -> bool {
        self.open.has(job)
    }

    /// Whether the client has, or may have, submitted a job with this UUID before. Only the
    /// latest finished jobs are remembered; once one was forgotten, this is always true.
    pub fn may_know(&self, job: Uuid) -> bool {
        self.open.may_know(job)
    }

    /// Remembers a job that was refused, for [`may_know`](Self::may_know).
    pub fn remember(&self, job: Uuid) {
        self.open.remember(job);
    }

    /// Admits a job that announces `bytes` of tensors, by its shapes: reserves what it needs.
    /// The client must not [have](Self::has) a job with this UUID.
    ///
    /// # Errors
    /// `QueueFull` if the client has too many jobs, other jobs hold the memory, or the owner's
    /// share of the queue is used up; `OutOfMemory` if the job can never fit; `UnknownJob` if
    /// another client's job has the UUID; `ShuttingDown`.
    pub fn admit(&self, job: Uuid, bytes: u64, ask: Ask) -> Result<Admitted, WireError> {
        let open = self.open.open(job, bytes)?;
        let reservation = self.jobs.admit(ask)?;
        let place = self.jobs.reserve(&self.owner, job)?;
        Ok(Admitted {
            place,
            open,
            reservation,
        })
    }

    /// Queues an admitted job.
    ///
    /// # Errors
    /// `ShuttingDown`, which is then stored as the job's end too.
    pub fn submit(&self, admitted: Admitted, work: Work) -> Result<(), WireError> {
        let Admitted {
            place,
            open,
            reservation,
        } = admitted;
        self.jobs.submit(self.id, place, open, work, reservation)
    }

    /// Fails an admitted job instead of queueing it.
    pub fn fail(&self, admitted: Admitted, error: WireError) {
        self.end(admitted, Event::Failed(error));
    }

    /// Cancels an admitted job instead of queueing it.
    pub fn withdraw(&self, admitted: Admitted) {
        self.end(admitted, Event::Cancelled);
    }

    fn end(&self, admitted: Admitted, event: Event) {
        let Admitted {
            place,
            open,
            reservation,
        } = admitted;
        let id = place.id;
        // The client may submit another job as soon as it reads of this one's end.
        drop((place, reservation));
        self.jobs.end_unqueued(self.id, id, open, event);
    }

    /// Cancels a queued or running job. Of a job that this client does not have, nothing is
    /// said.
    pub fn cancel(&self, job: Uuid) {
        self.jobs.cancel(self.id, job);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.jobs.drop_client(self.id);
    }
}
