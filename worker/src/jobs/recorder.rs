//! Which events of a job go to the journal.
//!
//! The journal holds what a lasting owner would lose if the process ended: accepted jobs, the
//! latest states of running ones, and ends that are not acknowledged. Without a state folder
//! there is none, and nothing here has an effect.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ovis_protocol::{JobOptions, Request, TensorHeader, WireError};
use uuid::Uuid;

use super::content::Content;
use super::event::Event;
use super::job::Ticket;
use super::journal::{JobRecord, Journal, JournalUsage, RecordKey, RecordedEnd, Recovered};
use super::owner::{Owner, OwnerId, Party};

/// The journal, if there is one.
#[derive(Clone, Default)]
pub struct Recorder(Option<Arc<dyn Journal>>);

fn key(owner: OwnerId, id: Uuid) -> RecordKey {
    RecordKey { owner: owner.0, id }
}

fn key_of(ticket: &Ticket) -> Option<RecordKey> {
    Some(key(ticket.journaled?, ticket.id))
}

impl Recorder {
    /// Writes to this journal.
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        Self(Some(journal))
    }

    /// Whether jobs outlive the process.
    pub fn is_durable(&self) -> bool {
        self.0.is_some()
    }

    /// Writes an accepted job of a lasting owner. Returns whether it is in the journal: a job
    /// that cannot be written runs nevertheless, and ends with the process.
    pub fn accept(&self, job: &NewRecord, tensors: &[(TensorHeader, Vec<u8>)]) -> bool {
        let Some(journal) = self.0.as_ref().filter(|_| job.owner.is_lasting) else {
            return false;
        };
        let written = journal.accept(&job.record(), tensors);
        if let Err(error) = &written {
            tracing::warn!(job = %job.id, %error, "the job is not kept in the state folder");
        }
        written.is_ok()
    }

    /// Notes that a device begins a job.
    pub(super) fn begin(&self, ticket: &Ticket) {
        if let (Some(journal), Some(key)) = (&self.0, key_of(ticket)) {
            journal.begin(key);
        }
    }

    /// Writes the state of a denoise job after `step` steps.
    pub(super) fn checkpoint(&self, ticket: &Ticket, step: u32, state: Arc<[u8]>) {
        if let (Some(journal), Some(key)) = (&self.0, key_of(ticket)) {
            journal.checkpoint(key, step, state);
        }
    }

    /// Writes how a job ended. A cancelled job is forgotten.
    pub(super) fn end(&self, ticket: &Ticket, event: &Event) {
        if let (Some(journal), Some(key)) = (&self.0, key_of(ticket)) {
            match event {
                Event::Done(outcome, output) => {
                    journal.end(key, RecordedEnd::Done(outcome.clone(), output.clone()));
                }
                Event::Failed(error) => journal.end(key, RecordedEnd::Failed(error.clone())),
                _ => journal.forget(key),
            }
        }
    }

    /// Writes that a job of an earlier process has failed before it was queued again.
    pub fn end_unqueued(&self, record: &JobRecord, error: &WireError) {
        if let Some(journal) = &self.0 {
            journal.end(record.key, RecordedEnd::Failed(error.clone()));
        }
    }

    /// Removes a job that is acknowledged or was kept for long enough.
    pub fn forget(&self, owner: OwnerId, id: Uuid) {
        if let Some(journal) = &self.0 {
            journal.forget(key(owner, id));
        }
    }

    /// What earlier processes left.
    pub fn recover(&self) -> impl Iterator<Item = Recovered> + '_ {
        self.0.iter().flat_map(|journal| journal.recover())
    }

    /// Bytes on disk, and writes that failed.
    pub fn usage(&self) -> JournalUsage {
        self.0.as_ref().map(|j| j.usage()).unwrap_or_default()
    }

    /// Waits until everything is written, but no longer than `timeout`.
    pub fn flush(&self, timeout: Duration) {
        if let Some(journal) = &self.0 {
            journal.flush(timeout);
        }
    }
}

/// A job that is about to be queued, as the journal is to keep it.
pub struct NewRecord {
    /// Whose job it is.
    pub owner: Owner,
    /// The job's UUID.
    pub id: Uuid,
    /// What to compute.
    pub request: Request,
    /// How.
    pub options: JobOptions,
    /// What the job was asked to do, to compare later submissions with.
    pub content: Content,
    /// The model, precision and device that compute it.
    pub model: String,
}

impl NewRecord {
    fn record(&self) -> JobRecord {
        let submitted = SystemTime::now();
        let since = submitted.duration_since(SystemTime::UNIX_EPOCH);
        let after = |seconds| Duration::try_from_secs_f64(seconds).ok();
        let deadline = self.options.deadline.and_then(after);
        JobRecord {
            key: key(self.owner.id, self.id),
            // Orders the jobs of several processes, which each count from 1.
            number: since.unwrap_or_default().as_nanos() as u64,
            client: self.owner.name.clone(),
            party: match &self.owner.party {
                Party::Address(address) => format!("address {address}"),
                Party::Token(name) => format!("token {name}"),
            },
            model: self.model.clone(),
            submitted,
            deadline: deadline.and_then(|after| submitted.checked_add(after)),
            request: self.request.clone(),
            options: self.options.clone(),
            content: self.content.0,
        }
    }
}

/// The owner that a [`JobRecord`] names.
pub fn owner_of(record: &JobRecord) -> Owner {
    let party = match record.party.split_once(' ') {
        Some(("token", name)) => Party::Token(name.into()),
        Some(("address", address)) => {
            let unknown = std::net::Ipv4Addr::UNSPECIFIED.into();
            Party::Address(address.parse().unwrap_or(unknown))
        }
        _ => Party::Token(record.party.as_str().into()),
    };
    Owner {
        id: OwnerId(record.key.owner),
        party,
        name: record.client.clone(),
        is_lasting: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_its_owner() {
        for party in [
            Party::Address([10, 0, 0, 1].into()),
            Party::Address("2001:db8::".parse().unwrap()),
            Party::Token("studio two".into()),
        ] {
            let owner = Owner::of_secret(party, "a designer", &[7; 32]);
            let new = NewRecord {
                owner: owner.clone(),
                id: Uuid::from_u128(1),
                request: Request::Decode,
                options: JobOptions {
                    deadline: Some(5.0),
                    ..JobOptions::default()
                },
                content: Content::default(),
                model: "a model".into(),
            };
            let record = new.record();
            assert_eq!(owner_of(&record), owner);
            let left = record.deadline.unwrap().duration_since(record.submitted);
            assert_eq!(left.unwrap(), Duration::from_secs(5));
        }
    }
}
