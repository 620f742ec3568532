//! One connection's unfinished jobs.
//!
//! A job is open from its `Submit` until its last message has been taken to be sent. All that
//! it holds here is in one value, an [`OpenJob`], which goes where the job goes and gives
//! everything back when it is dropped: there is no second record that messages in an odd order
//! could leave behind.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ovis_protocol::limits::{MAX_JOBS_PER_CONNECTION, MAX_TENSOR_BYTES};
use ovis_protocol::{ErrorCode, JobId, WireError};

/// How many jobs that need no more chunks are remembered, so that chunks that
/// were already under way for them are passed over.
const REMEMBERED: usize = 1024;

#[derive(Default)]
struct Inner {
    /// Open jobs and the tensor bytes each announced.
    open: HashMap<JobId, u64>,
    over: HashSet<JobId>,
    over_order: VecDeque<JobId>,
    /// Whether a job that is over has been forgotten.
    forgotten: bool,
}

impl Inner {
    fn remember(&mut self, job: JobId) {
        if self.over.insert(job) {
            self.over_order.push_back(job);
        }
        if self.over_order.len() > REMEMBERED {
            if let Some(oldest) = self.over_order.pop_front() {
                self.over.remove(&oldest);
                self.forgotten = true;
            }
        }
    }
}

/// Which jobs of a connection are open, and which are over.
#[derive(Default)]
pub struct Jobs(Mutex<Inner>);

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a job of this UUID is open.
    pub fn has(&self, job: JobId) -> bool {
        self.lock().open.contains_key(&job)
    }

    /// Whether a chunk for this UUID, which expects none, is to be passed over: its job has
    /// all its bytes, is over, or may be one that is.
    pub fn passes_over(&self, job: JobId) -> bool {
        let inner = self.lock();
        inner.forgotten || inner.open.contains_key(&job) || inner.over.contains(&job)
    }

    /// Notes that there is nothing more to say about a job that was never open.
    pub fn remember(&self, job: JobId) {
        self.lock().remember(job);
    }

    /// Opens a job that announces `bytes` of tensors, and whose UUID [`has`](Self::has) not.
    ///
    /// # Errors
    /// The connection has too many of them, or of their bytes.
    pub fn open(self: &Arc<Self>, job: JobId, bytes: u64) -> Result<OpenJob, WireError> {
        let mut inner = self.lock();
        if inner.open.len() >= MAX_JOBS_PER_CONNECTION {
            return Err(WireError::new(
                ErrorCode::QueueFull,
                format!("This connection has {MAX_JOBS_PER_CONNECTION} unfinished jobs, the most there may be."),
                "Wait for one to end, or cancel one.",
            ));
        }
        let announced: u64 = inner.open.values().sum();
        if announced.saturating_add(bytes) > MAX_TENSOR_BYTES {
            return Err(WireError::new(
                ErrorCode::QueueFull,
                format!("The tensors of this connection's unfinished jobs would exceed {MAX_TENSOR_BYTES} bytes."),
                "Wait for a job to end, or send smaller ones.",
            ));
        }
        inner.open.insert(job, bytes);
        drop(inner);
        Ok(OpenJob {
            jobs: self.clone(),
            job,
        })
    }
}

/// A job's place among its connection's, and the bytes it announced.
pub struct OpenJob {
    jobs: Arc<Jobs>,
    job: JobId,
}

impl Drop for OpenJob {
    fn drop(&mut self) {
        let mut inner = self.jobs.lock();
        inner.open.remove(&self.job);
        inner.remember(self.job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> JobId {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&n.to_le_bytes());
        id
    }

    #[test]
    fn jobs_and_their_bytes_are_bounded() {
        let jobs = Arc::new(Jobs::default());
        let large = jobs.open(id(0), MAX_TENSOR_BYTES - 1).unwrap();
        assert!(jobs.open(id(1), 2).is_err());
        assert!(jobs.open(id(1), u64::MAX).is_err());
        let most = MAX_JOBS_PER_CONNECTION as u16;
        let small: Vec<_> = (1..most).map(|i| jobs.open(id(i), 0).unwrap()).collect();
        assert!(jobs.open(id(99), 0).is_err());
        drop(large);
        assert!(jobs.open(id(99), 2).is_ok());
        drop(small);
        assert!(!jobs.has(id(1)));
    }

    #[test]
    fn a_chunk_of_a_job_that_is_over_is_always_passed_over() {
        let jobs = Arc::new(Jobs::default());
        assert!(!jobs.passes_over(id(1)));
        let open = jobs.open(id(1), 0).unwrap();
        assert!(jobs.passes_over(id(1)));
        drop(open);
        for other in 2..2000 {
            assert!(jobs.passes_over(id(1)), "after {other} others");
            jobs.remember(id(other));
        }
        assert_eq!(jobs.lock().over.len(), REMEMBERED);
    }
}
