//! Numbers that name clients, owners and jobs within one process.

/// Names a client: one connection to this worker. Never used twice.
pub type ClientId = u64;

/// Names an owner for as long as it has a connection or a job here. Never used twice.
pub type OwnerNumber = u64;

/// Names one job of one owner. A job's UUID is chosen by its client, who may use it again once
/// the job's end is acknowledged; a key is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// The owner of the job.
    pub owner: OwnerNumber,
    /// The job's number within this process.
    pub number: u64,
}
