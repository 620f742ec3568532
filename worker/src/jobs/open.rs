//! One owner's unfinished jobs, and the limits on them.
//!
//! A job is open from its admission until its end is acknowledged. It
//! counts as long as its [`OpenJob`] lives, which travels with the job: there is no second
//! record that messages in an unexpected order could leave behind.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ovis_protocol::limits::{MAX_JOBS_PER_OWNER, MAX_TENSOR_BYTES};
use ovis_protocol::{ErrorCode, WireError};
use uuid::Uuid;

/// How many finished jobs are remembered, so that parts of their tensors that were already on
/// their way are ignored.
const REMEMBERED: usize = 1024;

#[derive(Default)]
struct Inner {
    next: u64,
    /// Open jobs by number: the UUID, and the tensor bytes that the job announced. A job that
    /// is submitted anew on another connection is there twice for a moment.
    open: HashMap<u64, (Uuid, u64)>,
    finished: HashSet<Uuid>,
    /// `finished`, the oldest first.
    finished_order: VecDeque<Uuid>,
    /// Whether a finished job has been forgotten.
    has_forgotten: bool,
}

impl Inner {
    fn has(&self, job: Uuid) -> bool {
        self.open.values().any(|(open, _)| *open == job)
    }

    fn remember(&mut self, job: Uuid) {
        if self.finished.insert(job) {
            self.finished_order.push_back(job);
        }
        if self.finished_order.len() > REMEMBERED {
            if let Some(oldest) = self.finished_order.pop_front() {
                self.finished.remove(&oldest);
                self.has_forgotten = true;
            }
        }
    }
}

/// Which jobs of an owner are open, and which have finished.
#[derive(Default)]
pub struct OpenJobs(Mutex<Inner>);

impl OpenJobs {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a job with this UUID is open.
    pub fn has(&self, job: Uuid) -> bool {
        self.lock().has(job)
    }

    /// Whether this UUID is, or may be, that of a job the owner has submitted.
    pub fn may_know(&self, job: Uuid) -> bool {
        let inner = self.lock();
        inner.has_forgotten || inner.has(job) || inner.finished.contains(&job)
    }

    /// Remembers a job that was refused, as if it had finished.
    pub fn remember(&self, job: Uuid) {
        self.lock().remember(job);
    }

    /// Opens a job that announces `bytes` of tensors.
    ///
    /// # Errors
    /// `QueueFull` if the owner has too many open jobs, or too many bytes of their tensors.
    pub fn open(self: &Arc<Self>, job: Uuid, bytes: u64) -> Result<OpenJob, WireError> {
        let mut inner = self.lock();
        if inner.open.len() >= MAX_JOBS_PER_OWNER {
            return Err(WireError::new(
                ErrorCode::QueueFull,
                format!(
                    "This client has {MAX_JOBS_PER_OWNER} unfinished jobs, the most there may be."
                ),
                "Wait for one to end and acknowledge it, or cancel one.",
            ));
        }
        let announced: u64 = inner.open.values().map(|(_, bytes)| bytes).sum();
        if announced.saturating_add(bytes) > MAX_TENSOR_BYTES {
            return Err(WireError::new(
                ErrorCode::QueueFull,
                format!("The tensors of this client's unfinished jobs would exceed {MAX_TENSOR_BYTES} bytes."),
                "Wait for a job to end, or send smaller ones.",
            ));
        }
        let number = inner.next;
        inner.next += 1;
        inner.open.insert(number, (job, bytes));
        drop(inner);
        Ok(OpenJob {
            jobs: self.clone(),
            number,
        })
    }
}

/// An unfinished job's place among its owner's. Dropping it finishes the job.
pub struct OpenJob {
    jobs: Arc<OpenJobs>,
    number: u64,
}

impl Drop for OpenJob {
    fn drop(&mut self) {
        let mut inner = self.jobs.lock();
        if let Some((job, _)) = inner.open.remove(&self.number) {
            inner.remember(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> Uuid {
        Uuid::from_u128(n.into())
    }

    #[test]
    fn jobs_and_their_bytes_are_bounded() {
        let jobs = Arc::new(OpenJobs::default());
        let large = jobs.open(id(0), MAX_TENSOR_BYTES - 1).unwrap();
        assert!(jobs.open(id(1), 2).is_err());
        assert!(jobs.open(id(1), u64::MAX).is_err());
        let most = MAX_JOBS_PER_OWNER as u16;
        let small: Vec<_> = (1..most).map(|i| jobs.open(id(i), 0).unwrap()).collect();
        assert!(jobs.open(id(99), 0).is_err());
        drop(large);
        assert!(jobs.open(id(99), 2).is_ok());
        drop(small);
        assert!(!jobs.has(id(1)));
    }

    #[test]
    fn a_finished_job_is_never_taken_for_an_unknown_one() {
        let jobs = Arc::new(OpenJobs::default());
        assert!(!jobs.may_know(id(1)));
        let open = jobs.open(id(1), 0).unwrap();
        assert!(jobs.may_know(id(1)));
        drop(open);
        for other in 2..2000 {
            assert!(jobs.may_know(id(1)), "after {other} others");
            jobs.remember(id(other));
        }
        assert_eq!(jobs.lock().finished.len(), REMEMBERED);
    }
}
