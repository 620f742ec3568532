//! One client's calls.

use std::sync::Arc;

use ovis_protocol::{ErrorCode, JobOptions, Request, WireError};
use uuid::Uuid;

use super::content::Content;
use super::event::Event;
use super::id::{ClientId, OwnerNumber};
use super::models::Model;
use super::open::OpenJobs;
use super::owner::Owner;
use super::recorder::NewRecord;
use super::service::Jobs;
use super::store::Found;
use super::submission::{Admitted, Submission};
use super::subscription::Subscription;
use crate::pipeline::Ask;

/// A client that may submit and claim jobs of its owner. Dropping it cancels the jobs of an
/// owner without a secret.
pub struct Client {
    jobs: Jobs,
    id: ClientId,
    owner: Owner,
    number: OwnerNumber,
    open: Arc<OpenJobs>,
}

impl Client {
    /// The client whose jobs belong to `owner`, and whose events go to `subscription`.
    pub fn new(jobs: Jobs, subscription: &Subscription, owner: Owner) -> Self {
        let attached = subscription.attach(&owner);
        Self {
            jobs,
            id: subscription.client(),
            owner,
            number: attached.owner,
            open: attached.open,
        }
    }

    /// The client's number.
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// The owner that the client speaks for.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The jobs of all clients.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Whether the owner has an unfinished job with this UUID.
    pub fn has(&self, job: Uuid) -> bool {
        self.open.has(job)
    }

    /// Whether the owner has, or may have, submitted a job with this UUID before. Only the
    /// latest finished jobs are remembered; once one was forgotten, this is always true.
    pub fn may_know(&self, job: Uuid) -> bool {
        self.open.may_know(job)
    }

    /// Remembers a job that was refused, for [`may_know`](Self::may_know).
    pub fn remember(&self, job: Uuid) {
        self.open.remember(job);
    }

    /// The owner's job with this UUID, if its upload is complete and its end is not
    /// acknowledged.
    pub fn find(&self, job: Uuid) -> Option<Found> {
        self.jobs.find(self.id, job)
    }

    /// Admits a job of a model that announces `bytes` of tensors, by its shapes: reserves what it
    /// needs, and `state` bytes in addition for the state that it goes on from.
    /// If another connection of the owner is still sending a job with this UUID, that upload is
    /// given up.
    ///
    /// # Errors
    /// `QueueFull` if the owner has too many jobs, other jobs hold the memory, or the owner's
    /// share of the queue is used up; `OutOfMemory` if the job can never fit; `ShuttingDown`.
    pub fn admit(
        &self,
        job: Uuid,
        model: &Arc<Model>,
        bytes: u64,
        ask: Ask,
        state: u64,
    ) -> Result<Admitted, WireError> {
        let opened = self.open.open(job, bytes);
        let open = opened.map_err(|error| self.jobs.with_hint(error))?;
        let reservation = self.jobs.admit(model, ask, state)?;
        let place = self.jobs.reserve(&self.owner, self.number, job)?;
        Ok(Admitted {
            place,
            open,
            reservation,
            model: model.clone(),
        })
    }

    /// An admitted job as the journal is to keep it.
    pub fn record(
        &self,
        id: Uuid,
        admitted: &Admitted,
        request: &Request,
        options: &JobOptions,
        content: Content,
    ) -> NewRecord {
        NewRecord {
            owner: self.owner.clone(),
            id,
            request: request.clone(),
            options: options.clone(),
            content,
            model: admitted.model.identity(),
        }
    }

    /// Queues an admitted job.
    ///
    /// # Errors
    /// `ShuttingDown`, which is then stored as the job's end too; `UnknownJob` if the job was
    /// submitted again on another connection.
    pub fn submit(&self, admitted: Admitted, submission: Submission) -> Result<(), WireError> {
        self.jobs
            .submit(Some(self.id), &self.owner, admitted, submission)
    }

    /// Fails an admitted job instead of queueing it.
    pub fn fail(&self, admitted: Admitted, error: WireError) {
        self.jobs
            .end_unqueued(self.id, admitted, Event::Failed(error));
    }

    /// Cancels an admitted job instead of queueing it.
    pub fn withdraw(&self, admitted: Admitted) {
        self.jobs.end_unqueued(self.id, admitted, Event::Cancelled);
    }

    /// Cancels a queued or running job. Of a job that the owner does not have, nothing is said.
    pub fn cancel(&self, job: Uuid) {
        self.jobs.cancel(self.number, job);
    }

    /// Takes over a job of the owner. Of its result, the first `received` bytes are left out.
    ///
    /// # Errors
    /// `UnknownJob` if there is no such job; `InvalidRequest` if the result has not so many
    /// bytes, or the number is no multiple of a value's 4 bytes.
    pub fn claim(&self, job: Uuid, received: u64) -> Result<(), WireError> {
        let found = self.find(job).ok_or_else(|| {
            WireError::new(
                ErrorCode::UnknownJob,
                "This worker has no such job of this client.",
                "Submit the job again.",
            )
        })?;
        let size = size_of::<f32>() as u64;
        let values = found.values.map_or(0, |values| values as u64 * size);
        if found.values.is_some() && (received > values || !received.is_multiple_of(size)) {
            return Err(WireError::new(
                ErrorCode::InvalidRequest,
                format!("A client cannot have received {received} bytes of a result of {values}."),
                "Claim the job with the number of bytes that have arrived, or with 0.",
            ));
        }
        self.jobs
            .claim(self.id, found.job, (received / size) as usize);
        // The connection's span names the client and its peer. A job of an earlier process has
        // no other line that does.
        tracing::info!(%job, owner = %self.owner.id, received, "claimed");
        Ok(())
    }

    /// Forgets a job of the owner that has ended.
    pub fn acknowledge(&self, job: Uuid) {
        self.jobs.acknowledge(self.id, job);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.owner.is_lasting {
            self.jobs.drop_owner(self.number);
        }
    }
}
