//! Queued and running jobs, behind one lock, and the condition that the device's thread waits
//! on.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ovis_protocol::WireError;
use uuid::Uuid;

use super::admission::Ledger;
use super::error::{deadline_exceeded, shutting_down};
use super::event::Event;
use super::id::OwnerNumber;
use super::job::{Job, Ticket};
use super::metrics::Metrics;
use super::owner::Owner;
use super::queue::{FairQueue, Full, QueueLimits};
use super::recorder::Recorder;
use super::retry::{retry_after, RecentJobs};
use super::store::JobStore;

/// How long the device's thread waits for a job before it is told that it is idle.
const IDLE: Duration = Duration::from_secs(5);

/// Which job the device would take now.
pub enum Wanted<'a> {
    /// The next in order. If there is none, wait for one.
    Any,
    /// The next in order for which this holds. If there is none, do not wait.
    If(&'a dyn Fn(&Job) -> bool),
    /// None: only say whether to stop.
    Nothing,
}

/// What the device is to do.
pub enum Next {
    /// Begin this job.
    Job(Box<Job>),
    /// Go on with the jobs it has.
    Continue,
    /// No job has come for a while.
    Idle,
    /// Unload these models, unless they run jobs.
    Unload(Vec<Arc<str>>),
    /// End: the worker is stopping.
    Stop,
}

/// What all handles to the jobs share.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    pub store: Arc<dyn JobStore>,
    pub ledger: Arc<Ledger>,
    pub metrics: Metrics,
    pub recorder: Recorder,
}

/// The jobs that have not ended.
pub(super) struct State {
    pub queue: FairQueue<Job>,
    /// Jobs that have a queue place and whose tensors are still arriving: the job's number, and
    /// the owner that holds the place.
    pub reserved: HashMap<(OwnerNumber, Uuid), (u64, Owner)>,
    pub running: Vec<Ticket>,
    pub stopping: bool,
    /// Whether an operator wants no new jobs to be accepted.
    pub draining: bool,
    /// Models that somebody wants to be unloaded.
    pub unloads: Vec<Arc<str>>,
    /// Number of jobs that have ended.
    pub finished: u64,
    /// How long recent jobs had the device.
    pub recent: RecentJobs,
    /// Bytes of device memory in use and in all, as last reported.
    pub device_memory: (u64, u64),
}

impl Shared {
    pub fn new(
        queue: QueueLimits,
        store: Arc<dyn JobStore>,
        ledger: Arc<Ledger>,
        recorder: Recorder,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                queue: FairQueue::new(queue),
                reserved: HashMap::new(),
                running: Vec::new(),
                stopping: false,
                draining: false,
                unloads: Vec::new(),
                finished: 0,
                recent: RecentJobs::default(),
                device_memory: (0, 0),
            }),
            changed: Condvar::new(),
            store,
            ledger,
            metrics: Metrics::new(),
            recorder,
        }
    }

    /// The state. Every change to it is complete before the lock is released, so a panic
    /// elsewhere leaves it usable.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the device's thread.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// The device's next job. It counts as running from here on.
    pub fn next(&self, wanted: &Wanted<'_>) -> Next {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return Next::Stop;
            }
            if !state.unloads.is_empty() {
                return Next::Unload(std::mem::take(&mut state.unloads));
            }
            self.expire(&mut state);
            let job = match wanted {
                Wanted::Any => state.queue.pop_if(|_| true),
                Wanted::If(fits) => state.queue.pop_if(fits),
                Wanted::Nothing => None,
            };
            if let Some(job) = job {
                self.metrics
                    .job_started(job.ticket.waited_until(Instant::now()));
                state.running.push(job.ticket.clone());
                job.ticket.report(Event::Started);
                state.report_positions();
                return Next::Job(Box::new(job));
            }
            if !matches!(wanted, Wanted::Any) {
                return Next::Continue;
            }
            let waited = self.changed.wait_timeout(state, IDLE);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return Next::Idle;
            }
            state = woken;
        }
    }

    /// Fails the queued jobs whose deadline has passed.
    fn expire(&self, state: &mut State) {
        let expired = state.queue.take_expired(Instant::now());
        for job in &expired {
            self.end(state, &job.ticket, Event::Failed(deadline_exceeded()));
        }
        if !expired.is_empty() {
            state.report_positions();
        }
    }

    /// Drops the jobs that match and reports that at once. The device gives up a running job as
    /// soon as it can: within an operation on a CPU, after it on a GPU. Returns how many jobs
    /// there were.
    pub fn cancel(&self, is_it: impl Fn(&Ticket) -> bool) -> usize {
        let mut state = self.lock();
        let mut cancelled = 0;
        for ticket in state.running.clone() {
            if is_it(&ticket) {
                ticket.cancel();
                self.end(&mut state, &ticket, Event::Cancelled);
                cancelled += 1;
            }
        }
        for job in state.queue.remove(|job| is_it(&job.ticket)) {
            self.end(&mut state, &job.ticket, Event::Cancelled);
            cancelled += 1;
        }
        state.report_positions();
        cancelled
    }

    /// Drops every job of an owner that is gone. A running one ends once the device has given
    /// it up.
    pub fn drop_owner(&self, owner: OwnerNumber) {
        let mut state = self.lock();
        for ticket in &state.running {
            if ticket.key.owner == owner {
                ticket.cancel();
            }
        }
        for job in state.queue.remove(|job| job.ticket.key.owner == owner) {
            self.end(&mut state, &job.ticket, Event::Cancelled);
        }
        state.report_positions();
    }

    /// Fails the queued jobs and admits no more. Jobs in the journal are queued again when the
    /// worker is back.
    pub fn stop(&self, state: &mut State) {
        state.stopping = true;
        for job in state.queue.remove(|_| true) {
            self.interrupt(state, &job.ticket);
        }
    }

    /// Parts with a job that the worker's end interrupts.
    pub fn interrupt(&self, state: &mut State, ticket: &Ticket) {
        match ticket.journaled {
            Some(_) => {
                state.running.retain(|other| !other.is_same_as(ticket));
                ticket.trace.interrupt();
            }
            None => self.end(state, ticket, Event::Failed(shutting_down())),
        }
    }

    /// Fails the running jobs, which the device gives up as soon as it can. Jobs in the journal
    /// go on from their last state when the worker is back.
    pub fn abandon(&self, state: &mut State) {
        for ticket in state.running.clone() {
            ticket.cancel();
            self.interrupt(state, &ticket);
        }
    }

    /// Ends a job: counts it, logs it and stores its last event. A job ends once, so the end
    /// that the device reports for a job that was cancelled meanwhile changes nothing.
    pub fn end(&self, state: &mut State, ticket: &Ticket, event: Event) {
        if !ticket.end() {
            return;
        }
        state.running.retain(|other| !other.is_same_as(ticket));
        state.finished += 1;
        self.metrics.job_ended(ticket.operation, &event);
        self.recorder.end(ticket, &event);
        if let Event::Done(outcome, _) = &event {
            state.recent.note(outcome.seconds_running);
        }
        ticket.trace.end(&event);
        ticket.span.in_scope(|| log_end(&event));
        ticket.report(event);
    }
}

fn log_end(event: &Event) {
    match event {
        Event::Done(outcome, _) => tracing::info!(
            queued = outcome.seconds_queued,
            running = outcome.seconds_running,
            "done"
        ),
        Event::Failed(error) => {
            tracing::warn!(code = error.code.name(), error = %error, "failed");
        }
        _ => tracing::info!("cancelled"),
    }
}

impl State {
    /// Reports the position of every queued job whose position has changed.
    pub fn report_positions(&mut self) {
        for (position, job) in self.queue.in_order().into_iter().enumerate() {
            let position = position as u32;
            if job.reported_position != Some(position) {
                job.reported_position = Some(position);
                job.ticket.report(Event::Queued(position));
            }
        }
    }

    /// Whether a place is still reserved for the job of this number.
    pub fn holds(&self, owner: OwnerNumber, id: Uuid, number: u64) -> bool {
        let reserved = self.reserved.get(&(owner, id));
        reserved.is_some_and(|(reserved, _)| *reserved == number)
    }

    /// Gives a reserved place back, if it is still this job's.
    pub fn release(&mut self, owner: OwnerNumber, id: Uuid, number: u64) {
        if self.holds(owner, id, number) {
            if let Some((_, holder)) = self.reserved.remove(&(owner, id)) {
                self.queue.release(&holder);
            }
        }
    }
}

impl State {
    /// The seconds after which a request that found no room may succeed.
    pub fn retry_after(&self) -> f32 {
        retry_after(&self.recent, self.running.len())
    }
}

/// The error of a job for which the queue has no place.
pub(super) fn queue_full(full: &Full) -> WireError {
    WireError::new(
        ovis_protocol::ErrorCode::QueueFull,
        full.to_string(),
        "An address or token gets no more places than are free, and a client no more than that \
         leaves: wait for a job to end, or start the worker with a larger --queue.",
    )
}
