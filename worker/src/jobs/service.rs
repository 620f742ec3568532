//! The handle that sockets and the device's thread share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_sdk::trace::SdkTracer;
use ovis_protocol::limits::MAX_JOBS_PER_OWNER;
use ovis_protocol::{Capabilities, Keeping, StateInterval, Status};
use tokio::sync::watch;

use super::admission::Ledger;
use super::event::Event;
use super::job::Ticket;
use super::journal::Journal;
use super::memory::MemoryStore;
use super::metrics::Metrics;
use super::models::ModelList;
use super::pulse::Pulse;
use super::queue::QueueLimits;
use super::recorder::Recorder;
use super::state::{Next, Shared, Wanted};
use super::store::{JobStore, Kept};
use super::subscription::Subscription;
use crate::pipeline::Budget;

/// Queue places unless configured otherwise. An owner that is alone may take a third of them,
/// which is as many jobs as an owner may have.
pub const DEFAULT_QUEUE: usize = 3 * MAX_JOBS_PER_OWNER;

/// Bounds on what jobs keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Places in the queue.
    pub queue: usize,
    /// Most places that one owner may have.
    pub queue_per_owner: usize,
    /// Bytes of results, previews and states that are kept for all owners together.
    pub kept_bytes: u64,
    /// How long an unfinished job is kept after its owner has left, and an ended one after its
    /// end.
    pub kept_for: Duration,
    /// How often the state of a running denoise job is written to the journal.
    pub checkpoint: StateInterval,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: DEFAULT_QUEUE,
            queue_per_owner: MAX_JOBS_PER_OWNER,
            kept_bytes: 2 << 30,
            kept_for: Duration::from_secs(3600),
            checkpoint: StateInterval {
                steps: 0,
                seconds: 10.0,
            },
        }
    }
}

/// All jobs of one worker. Clones stand for the same jobs. No method waits for the device,
/// except [`next`](Self::next), which the device itself calls, and [`stopped`](Self::stopped).
#[derive(Clone)]
pub struct Jobs {
    pub(super) shared: Arc<Shared>,
    limits: Limits,
    models: Arc<ModelList>,
    started: Instant,
    /// The next client's and the next job's number.
    numbers: Arc<AtomicU64>,
    pulse: Arc<Pulse>,
    device: watch::Sender<DeviceState>,
    /// What makes the spans of jobs, if traces are wanted.
    pub(super) tracer: Option<SdkTracer>,
}

/// Whether the device works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// It does.
    Works,
    /// Its thread has ended.
    Ended,
    /// An operation does not come back.
    Hangs,
}

/// Whether jobs are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// They are.
    Ok,
    /// The device finishes its current step, and then ends.
    Stopping,
    /// The device has ended, or hangs.
    Ended,
}

impl Jobs {
    /// The jobs of a worker that has these models and has `budget` left for jobs. Events and
    /// results are kept in memory.
    pub fn new(limits: Limits, models: ModelList, budget: Budget) -> Self {
        let store = Arc::new(MemoryStore::new(limits.kept_bytes));
        Self::with_store(limits, store, Recorder::default(), models, budget)
    }

    /// As [`new`](Self::new), with a journal that what is kept in memory is also written to.
    pub fn with_journal(
        limits: Limits,
        journal: Arc<dyn Journal>,
        models: ModelList,
        budget: Budget,
    ) -> Self {
        let store = Arc::new(MemoryStore::new(limits.kept_bytes));
        Self::with_store(limits, store, Recorder::new(journal), models, budget)
    }

    /// As [`new`](Self::new), with another store and a journal.
    pub fn with_store(
        limits: Limits,
        store: Arc<dyn JobStore>,
        recorder: Recorder,
        models: ModelList,
        budget: Budget,
    ) -> Self {
        let loaded = models.iter().filter(|model| model.is_loaded());
        let loaded = loaded.map(|model| model.costs.weights()).sum();
        Self {
            shared: Arc::new(Shared::new(
                QueueLimits {
                    capacity: limits.queue,
                    per_owner: limits.queue_per_owner,
                },
                store,
                Ledger::new(budget).with_loaded(loaded),
                recorder,
            )),
            limits,
            models: Arc::new(models),
            started: Instant::now(),
            numbers: Arc::new(AtomicU64::new(1)),
            pulse: Arc::default(),
            device: watch::Sender::new(DeviceState::Works),
            tracer: None,
        }
    }

    /// The same jobs, whose spans this tracer makes from now on; without one, nothing does.
    #[must_use]
    pub fn with_tracer(self, tracer: Option<SdkTracer>) -> Self {
        Self { tracer, ..self }
    }

    /// The models that jobs may ask for.
    pub fn models(&self) -> &ModelList {
        &self.models
    }

    /// What the default model can do, with a list of all models.
    pub fn capabilities(&self) -> &Capabilities {
        self.models.capabilities()
    }

    /// Subscribes a new client, with a number of its own.
    pub fn subscribe(&self) -> Subscription {
        Subscription::new(self.shared.store.clone(), self.number())
    }

    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Queue length, running jobs, uptime and device memory.
    pub fn status(&self) -> Status {
        let state = self.shared.lock();
        Status {
            queued: state.queue.len() as u32,
            running: state.running.len() as u32,
            finished: state.finished,
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            device_bytes_used: state.device_memory.0,
            device_bytes_total: state.device_memory.1,
            models: self.models.states(),
        }
    }

    /// Counters and histograms.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// What is kept for owners that have not acknowledged it.
    pub fn kept(&self) -> Kept {
        self.shared.store.kept()
    }

    /// What writes jobs to the journal.
    pub fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// How jobs of lasting owners are kept.
    pub fn keeping(&self) -> Keeping {
        Keeping {
            seconds: self.limits.kept_for.as_secs_f64(),
            bytes: self.limits.kept_bytes,
            is_durable: self.recorder().is_durable(),
        }
    }

    /// Forgets what was kept for long enough. To be called every second or so.
    pub fn sweep(&self) {
        let swept = self
            .shared
            .store
            .sweep(Instant::now(), self.limits.kept_for);
        for (owner, id) in swept.forgotten {
            self.shared.recorder.forget(owner, id);
        }
        if !swept.abandoned.is_empty() {
            let jobs = swept.abandoned.len();
            tracing::info!(jobs, "cancelled jobs whose owner stays away");
            self.shared
                .cancel(|ticket| swept.abandoned.contains(&ticket.key));
        }
    }

    /// Fails the queued jobs now, and the running ones after the device's current step.
    pub fn stop(&self) {
        self.shared.stop(&mut self.shared.lock());
        self.shared.wake();
    }

    /// [Stops](Self::stop), and fails the running jobs at once, whatever the device is still
    /// busy with.
    pub fn abandon(&self) {
        let mut state = self.shared.lock();
        self.shared.stop(&mut state);
        self.shared.abandon(&mut state);
        drop(state);
        self.shared.wake();
    }

    /// Whether jobs are accepted.
    pub fn health(&self) -> Health {
        if *self.device.borrow() != DeviceState::Works {
            Health::Ended
        } else if self.shared.lock().stopping {
            Health::Stopping
        } else {
            Health::Ok
        }
    }

    /// Why no job would be accepted now, if none would.
    pub fn obstacle(&self) -> Option<&'static str> {
        if self.health() == Health::Ended {
            return Some("the device does not work");
        }
        let state = self.shared.lock();
        if state.stopping {
            Some("the worker is stopping")
        } else if state.draining {
            Some("the worker is being drained")
        } else if !state.queue.has_room() {
            Some("the queue is full")
        } else {
            None
        }
    }

    /// Bytes of the loaded weights.
    pub fn weight_bytes(&self) -> u64 {
        self.models.loaded_bytes()
    }

    /// Waits until the device works no more, and says why.
    pub async fn stopped(&self) -> DeviceState {
        let mut device = self.device.subscribe();
        let stopped = device.wait_for(|state| *state != DeviceState::Works).await;
        // Fails only when the sender is gone, and this handle holds one.
        stopped.map_or(DeviceState::Ended, |state| *state)
    }

    /// What the device is busy with.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }
}

/// The device's side.
impl Jobs {
    /// Takes the device's next job.
    pub fn next(&self, wanted: &Wanted<'_>) -> Next {
        let next = self.shared.next(wanted);
        if let Next::Job(job) = &next {
            job.ticket.trace.start();
            // Without the lock, as it writes to a disk.
            self.shared.recorder.begin(&job.ticket);
        }
        next
    }

    /// Parts with a job that the device's end interrupts: one in the journal goes on when the
    /// worker is back, another one fails.
    pub fn interrupt(&self, ticket: &Ticket) {
        self.shared.interrupt(&mut self.shared.lock(), ticket);
    }

    /// Ends a job with its last event. What comes after a job's end is ignored.
    pub fn end(&self, ticket: &Ticket, event: Event) {
        self.shared.end(&mut self.shared.lock(), ticket, event);
    }

    /// How often the state of a denoise job is to be written to the journal.
    pub fn checkpoint_interval(&self, ticket: &Ticket) -> Option<StateInterval> {
        ticket.journaled.map(|_| self.limits.checkpoint)
    }

    /// Writes the state of a denoise job after `step` steps to the journal.
    pub fn checkpoint(&self, ticket: &Ticket, step: u32, state: Arc<[u8]>) {
        self.shared.recorder.checkpoint(ticket, step, state);
    }

    /// The memory that jobs have reserved and may still take.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Reports the bytes of device memory in use and in all.
    pub fn report_memory(&self, memory: (u64, u64)) {
        self.shared.lock().device_memory = memory;
    }

    /// Reports that the device has ended, which no job survives.
    pub fn report_device_ended(&self) {
        self.device.send_replace(DeviceState::Ended);
    }

    /// Reports that an operation of the device does not come back.
    pub fn report_device_hung(&self) {
        self.device.send_replace(DeviceState::Hangs);
    }
}
