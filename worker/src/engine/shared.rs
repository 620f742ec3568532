//! What the sockets' side and the device thread share: one lock, one condition.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ovis_protocol::{ErrorCode, JobId, WireError};

use super::active::Joining;
use super::admission::Ledger;
use super::job::{Event, Job, Ticket};
use super::queue::FairQueue;
use super::ClientId;
use crate::pipeline::Forwards;

/// Counts since the start, for `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Jobs ended, by operation and `done`, `failed` or `cancelled`.
    pub ended: BTreeMap<(&'static str, &'static str), u64>,
    /// Denoise steps run.
    pub steps: u64,
    /// Seconds that they took, previews included.
    pub step_seconds: f64,
    /// Forwards of the transformer in them.
    pub forwards: Forwards,
    /// Seconds the device thread has worked.
    pub busy_seconds: f64,
}

impl Counts {
    /// Counts a denoise step, with its job's forwards before and after it.
    pub(super) fn add_step(&mut self, took: Duration, before: Forwards, after: Forwards) {
        self.steps += 1;
        self.step_seconds += took.as_secs_f64();
        self.forwards.asked += after.asked - before.asked;
        self.forwards.answered += after.answered - before.answered;
    }
}

pub(super) struct Running {
    pub client: ClientId,
    pub ticket: Ticket,
}

pub(super) struct State {
    pub queue: FairQueue<Job>,
    /// Jobs that have a place in the queue and are still to come.
    pub reserved: HashSet<JobId>,
    pub running: Vec<Running>,
    pub stopping: bool,
    pub counts: Counts,
    pub memory: (u64, u64),
}

pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    pub started: Instant,
    /// The memory of all jobs.
    pub ledger: Arc<Ledger>,
}

/// How long a device without work is left alone before it is looked at.
const IDLE: Duration = Duration::from_secs(5);

/// What the device thread is to do next.
pub(super) enum Next {
    Job(Box<Job>),
    Step,
    /// Nothing has come for a while.
    Idle,
    Stop,
}

impl Shared {
    pub fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                queue: FairQueue::new(capacity),
                reserved: HashSet::new(),
                running: Vec::new(),
                stopping: false,
                counts: Counts::default(),
                memory: (0, 0),
            }),
            changed: Condvar::new(),
            started: Instant::now(),
            ledger: Ledger::new(),
        }
    }

    /// The state. Every change under the lock is whole before it is released,
    /// so a panic elsewhere does not spoil it.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// Waits for something to do. While denoise jobs are under way, that is, if there is one
    /// and `may_slip`, a short job or one that is `joining` them; else their next step.
    pub fn next(&self, joining: Option<&Joining>, may_slip: bool) -> Next {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return Next::Stop;
            }
            let job = match joining {
                Some(_) if !may_slip => return Next::Step,
                Some(joining) => {
                    let room = self.ledger.room();
                    state.queue.pop_if(|job| {
                        let cost = job.reservation.cost();
                        joining.has_memory_for(cost, room)
                            && match job.work.denoise_work() {
                                Some(work) => joining.takes(job.client, work),
                                None => true,
                            }
                    })
                }
                None => state.queue.pop_if(|_| true),
            };
            if let Some(job) = job {
                state.running.push(Running {
                    client: job.client,
                    ticket: job.ticket.clone(),
                });
                job.ticket.tell(Event::Started);
                state.tell_positions();
                return Next::Job(Box::new(job));
            }
            if joining.is_some() {
                return Next::Step;
            }
            let waited = self.changed.wait_timeout(state, IDLE);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return Next::Idle;
            }
            state = woken;
        }
    }
}

impl State {
    /// Tells every queued job whose position has changed.
    pub fn tell_positions(&mut self) {
        for (position, job) in self.queue.in_order().into_iter().enumerate() {
            let position = position as u32;
            if job.told != Some(position) {
                job.told = Some(position);
                job.ticket.tell(Event::Queued(position));
            }
        }
    }

    /// Whether an unfinished job has this UUID.
    pub fn has(&self, id: JobId) -> bool {
        self.reserved.contains(&id)
            || self.running.iter().any(|r| r.ticket.id == id)
            || self.queue.iter().any(|job| job.id == id)
    }

    /// Drops a client's job and says so at once. The device gives up one that is running as soon
    /// as it can: within an operation on a CPU, after it on a GPU.
    pub fn cancel(&mut self, client: ClientId, id: JobId) {
        let of_this = |r: &&Running| r.client == client && r.ticket.id == id;
        let running = self.running.iter().find(of_this).map(|r| r.ticket.clone());
        if let Some(ticket) = running {
            ticket.cancelled.store(true, Ordering::Release);
            self.end(&ticket, Event::Cancelled);
        }
        let removed = self
            .queue
            .remove(|job| job.client == client && job.id == id);
        for job in removed {
            self.end(&job.ticket, Event::Cancelled);
        }
        self.tell_positions();
    }

    /// Drops everything of a client that is gone.
    pub fn drop_client(&mut self, client: ClientId) {
        for running in self.running.iter().filter(|r| r.client == client) {
            running.ticket.cancelled.store(true, Ordering::Release);
        }
        for job in self.queue.remove(|job| job.client == client) {
            self.end(&job.ticket, Event::Cancelled);
        }
        self.tell_positions();
    }

    /// Fails what is running, which the device gives up as soon as it can.
    pub fn abandon(&mut self) {
        let running: Vec<Ticket> = self.running.iter().map(|r| r.ticket.clone()).collect();
        for ticket in running {
            ticket.cancelled.store(true, Ordering::Release);
            self.end(&ticket, Event::Failed(shutting_down()));
        }
    }

    /// Fails what is queued and lets nothing new in.
    pub fn stop(&mut self) {
        self.stopping = true;
        for job in self.queue.remove(|_| true) {
            self.end(&job.ticket, Event::Failed(shutting_down()));
        }
    }

    /// Counts a job's end, logs it and tells its client. A job ends once: what comes later, when
    /// the device is done with one that was cancelled, changes nothing.
    pub fn end(&mut self, ticket: &Ticket, event: Event) {
        if ticket.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        self.running
            .retain(|r| !Arc::ptr_eq(&r.ticket.ended, &ticket.ended));
        let outcome = match &event {
            Event::Done(outcome, _) => {
                ticket.span.in_scope(|| {
                    tracing::info!(
                        queued = outcome.seconds_queued,
                        running = outcome.seconds_running,
                        "done"
                    );
                });
                "done"
            }
            Event::Failed(error) => {
                ticket.span.in_scope(|| {
                    tracing::warn!(code = error.code.name(), error = %error, "failed");
                });
                "failed"
            }
            _ => {
                ticket.span.in_scope(|| tracing::info!("cancelled"));
                "cancelled"
            }
        };
        *self
            .counts
            .ended
            .entry((ticket.operation, outcome))
            .or_default() += 1;
        ticket.tell(event);
    }
}

/// The error of a job that the worker's end has cut off.
pub(super) fn shutting_down() -> WireError {
    WireError::new(
        ErrorCode::ShuttingDown,
        "The worker is shutting down.",
        "Start it again and repeat the job.",
    )
}
