//! Numbers that name clients and jobs within one worker.

/// Names a client: one connection to this worker. Never used twice.
pub type ClientId = u64;

/// Names one job of one client. A job's UUID is chosen by its client, who may use it again
/// once the job has ended; a key is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// The client that submitted the job.
    pub client: ClientId,
    /// The job's number within this worker.
    pub number: u64,
}
