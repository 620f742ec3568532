//! Jobs that an earlier process left in the journal.

use std::sync::Arc;
use std::time::SystemTime;

use ovis_protocol::{JobOptions, WireError};

use super::content::Content;
use super::event::Event;
use super::id::JobKey;
use super::journal::JobRecord;
use super::models::Model;
use super::recorder::owner_of;
use super::service::Jobs;
use super::store::NewJob;
use super::submission::{Admitted, Submission};
use super::work::Work;
use crate::pipeline::Ask;

impl Jobs {
    /// Queues a job of the journal for `model` again, for its owner to claim. `bytes` is the size
    /// of its tensors.
    ///
    /// # Errors
    /// As for [`Client::admit`](super::Client::admit).
    pub fn restore(
        &self,
        record: &JobRecord,
        model: &Arc<Model>,
        bytes: u64,
        ask: Ask,
        work: Work,
    ) -> Result<(), WireError> {
        let owner = owner_of(record);
        let attached = self.attach_away(&owner);
        let admitted = Admitted {
            open: attached.open.open(record.key.id, bytes)?,
            reservation: self.admit(model, ask, 0)?,
            model: model.clone(),
            place: self.reserve(&owner, attached.owner, record.key.id)?,
        };
        let left = record.deadline.map(|deadline| {
            let left = deadline.duration_since(SystemTime::now());
            left.unwrap_or_default().as_secs_f64()
        });
        let submission = Submission {
            work,
            options: JobOptions {
                deadline: left,
                ..record.options.clone()
            },
            content: Content(record.content),
            is_journaled: true,
        };
        self.submit(None, &owner, admitted, submission)
    }

    /// Keeps the end of a job of the journal, which came at `ended`, for its owner to claim.
    ///
    /// # Errors
    /// `QueueFull` if the owner has too many jobs.
    pub fn restore_end(
        &self,
        record: &JobRecord,
        end: Event,
        ended: SystemTime,
    ) -> Result<(), WireError> {
        let owner = owner_of(record);
        let attached = self.attach_away(&owner);
        let key = JobKey {
            owner: attached.owner,
            number: self.number(),
        };
        let new = NewJob {
            id: record.key.id,
            reader: None,
            content: Content(record.content),
            age: ended.elapsed().unwrap_or_default(),
            open: attached.open.open(record.key.id, 0)?,
        };
        self.keep_end(key, new, end);
        Ok(())
    }
}
