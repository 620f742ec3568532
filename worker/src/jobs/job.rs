//! A job in the queue or on the device.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovis_protocol::{JobOptions, StateInterval};
use uuid::Uuid;

use super::admission::Reservation;
use super::event::Event;
use super::id::{ClientId, JobKey};
use super::models::Model;
use super::owner::OwnerId;
use super::store::JobStore;
use super::trace::JobTrace;
use super::work::Work;

/// An admitted job with all its inputs.
pub struct Job {
    /// What to report about the job, and where.
    pub ticket: Ticket,
    /// The model that computes it.
    pub model: Arc<Model>,
    /// What to compute.
    pub work: Work,
    /// The job's memory, held until the device is done with it.
    pub reservation: Reservation,
    /// The queue position that its client was last told.
    pub(super) reported_position: Option<u32>,
}

/// The part of a job that outlives its work: its identity, and where its events go. Clones
/// stand for the same job.
#[derive(Clone)]
pub struct Ticket {
    /// The owner and the job's number.
    pub key: JobKey,
    /// The job's UUID.
    pub id: Uuid,
    /// The owner, by its digest; none for a job that was never given one.
    pub owner: Option<OwnerId>,
    /// The operation's name.
    pub operation: &'static str,
    /// The model that computes it, by name.
    pub model: Arc<str>,
    /// When the job fails unless it is done.
    pub deadline: Option<Instant>,
    /// When the client wants the state of a denoise job.
    pub state: Option<StateInterval>,
    /// The job's spans in a trace.
    pub trace: JobTrace,
    /// Whether the job is in the journal: the owner, if it is.
    pub journaled: Option<OwnerId>,
    /// Set once nobody wants the result any more. Operations on a CPU look at it while they
    /// run.
    pub cancelled: Arc<AtomicBool>,
    /// The span that the job's log lines are in.
    pub span: tracing::Span,
    submitted: Instant,
    /// The last step that has ended in the upper 32 bits, and the number of steps.
    step: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    store: Arc<dyn JobStore>,
}

impl Ticket {
    /// The ticket of a job submitted just now, whose events go to `store`.
    pub fn new(key: JobKey, id: Uuid, operation: &'static str, store: Arc<dyn JobStore>) -> Self {
        Self {
            key,
            id,
            owner: None,
            operation,
            model: Arc::default(),
            deadline: None,
            state: None,
            trace: JobTrace::default(),
            journaled: None,
            cancelled: Arc::default(),
            span: tracing::info_span!("job", %id, operation),
            submitted: Instant::now(),
            step: Arc::default(),
            ended: Arc::default(),
            store,
        }
    }

    /// The ticket with a job's options, and a log span that names client and owner.
    pub(super) fn with_options(
        self,
        options: &JobOptions,
        client: Option<ClientId>,
        owner: &OwnerId,
    ) -> Self {
        let deadline = options.deadline.and_then(|seconds| {
            let after = Duration::try_from_secs_f64(seconds).ok()?;
            self.submitted.checked_add(after)
        });
        let (id, operation) = (self.id, self.operation);
        Self {
            owner: Some(*owner),
            deadline,
            state: options.state,
            span: tracing::info_span!("job", %id, operation, client, %owner),
            ..self
        }
    }

    /// The ticket of a job that this model computes.
    pub(super) fn of_model(self, model: Arc<str>) -> Self {
        Self { model, ..self }
    }

    /// The ticket of a job that is in the journal, if it is, as one of this owner.
    pub(super) fn journaled(self, owner: Option<OwnerId>) -> Self {
        Self {
            journaled: owner,
            ..self
        }
    }

    /// The ticket with the spans of a job submitted just now.
    pub(super) fn traced(self, trace: JobTrace) -> Self {
        Self { trace, ..self }
    }

    /// Stores an event that does not end the job. [`Jobs::end`](super::Jobs::end) ends it.
    pub fn report(&self, event: Event) {
        if let Event::Progress(report, _) = &event {
            let step = u64::from(report.step) << 32 | u64::from(report.total);
            self.step.store(step, Ordering::Relaxed);
        }
        self.store.append(self.key, event);
    }

    /// The last step that has ended and the number of steps, once a step has.
    pub fn step(&self) -> Option<(u32, u32)> {
        let step = self.step.load(Ordering::Relaxed);
        (step != 0).then_some(((step >> 32) as u32, step as u32))
    }

    /// How long the job waited before `begun`.
    pub fn waited_until(&self, begun: Instant) -> Duration {
        begun - self.submitted
    }

    /// Whether the job's deadline has passed.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Asks for the job's work to be given up as soon as possible.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Whether nobody wants the result any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Marks the job as ended; whether it was not before. The device may still be busy with a
    /// cancelled job.
    pub(super) fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }

    /// Whether `other` stands for the same job.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
