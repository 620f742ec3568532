//! The trait, and what it takes and gives back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ovis_protocol::{JobOptions, Outcome, Request, TensorHeader, WireError};
use uuid::Uuid;

use crate::pipeline::Output;

/// Keeps what must survive the process. Methods may be called from any thread; but for
/// [`accept`](Self::accept), [`recover`](Self::recover) and [`flush`](Self::flush) they return
/// at once, and what cannot be written is counted and logged.
pub trait Journal: Send + Sync {
    /// Writes an accepted job, in place of one with the same key. Once this returns, the job
    /// survives the process and a loss of power. To be called on a thread for blocking work.
    ///
    /// # Errors
    /// The job cannot be written, or the journal is full.
    fn accept(
        &self,
        job: &JobRecord,
        tensors: &[(TensorHeader, Vec<u8>)],
    ) -> Result<(), JournalError>;

    /// Notes that a device begins a job, before this returns: the job may end the process.
    fn begin(&self, key: RecordKey);

    /// Replaces a job's denoise state by the one after `step` steps, and forgets how often the
    /// job was begun. If states come faster than they can be written, some are skipped.
    fn checkpoint(&self, key: RecordKey, step: u32, state: Arc<[u8]>);

    /// Writes how a job ended, and drops its tensors and its state.
    fn end(&self, key: RecordKey, end: RecordedEnd);

    /// Removes everything of a job.
    fn forget(&self, key: RecordKey);

    /// What earlier processes left, in the order of submission. Each job is read when it is
    /// asked for.
    fn recover(&self) -> Box<dyn Iterator<Item = Recovered> + '_>;

    /// What the journal takes on the disk.
    fn usage(&self) -> JournalUsage;

    /// Waits until everything is written, but no longer than `timeout`.
    fn flush(&self, timeout: Duration);
}

/// Names a job for all processes: its owner's digest, and its UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// The digest of the owner's secret.
    pub owner: [u8; 32],
    /// The job's UUID.
    pub id: Uuid,
}

/// An accepted job without its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// Which job.
    pub key: RecordKey,
    /// Orders the jobs of all processes by their submission.
    pub number: u64,
    /// The name of the client that submitted it.
    pub client: String,
    /// What the owner's share of the queue is part of.
    pub party: String,
    /// The model, precision and device that it was submitted to.
    pub model: String,
    /// When it was submitted.
    pub submitted: SystemTime,
    /// When it fails unless it is done.
    pub deadline: Option<SystemTime>,
    /// What to compute.
    pub request: Request,
    /// How.
    pub options: JobOptions,
    /// A digest of request, headers and tensors.
    pub content: [u8; 32],
}

/// How a job ended.
#[derive(Clone, Debug)]
pub enum RecordedEnd {
    /// It is done, and this is its result.
    Done(Outcome, Output),
    /// It failed.
    Failed(WireError),
}

/// A job that an earlier process left.
#[derive(Debug)]
pub struct Recovered {
    /// The job.
    pub record: JobRecord,
    /// Its tensors, unless it has ended.
    pub tensors: Vec<(TensorHeader, Vec<u8>)>,
    /// Its latest state: the number of steps, and the bytes.
    pub state: Option<(u32, Vec<u8>)>,
    /// How often a device has begun it since its latest state.
    pub begun: u32,
    /// When and how it ended.
    pub end: Option<(SystemTime, RecordedEnd)>,
}

/// What a journal takes on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalUsage {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files that could not be written since the start.
    pub failed_writes: u64,
    /// States that were skipped because newer ones came before they could be written.
    pub skipped_states: u64,
}

/// Why something cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file or the folder cannot be read or written.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Another worker uses the folder.
    #[error("another worker uses the state folder `{}`", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The journal has no room for the job.
    #[error("the state folder holds {used} bytes, and the job's {needed} would exceed {most}")]
    Full {
        /// Bytes that it holds.
        used: u64,
        /// Bytes of the job.
        needed: u64,
        /// Most bytes that it may hold.
        most: u64,
    },
    /// A value cannot be represented in a file.
    #[error("a job cannot be written: {0}")]
    Unwritable(String),
    /// A file is damaged.
    #[error("not a readable file of the state folder: {0}")]
    Damaged(&'static str),
    /// A file was written by another version of this program.
    #[error("the file was written by another version of ovis-worker")]
    OtherVersion,
}
