//! The handle that sockets and the device's thread share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Instant;

use ovis_protocol::limits::MAX_JOBS_PER_OWNER;
use ovis_protocol::{Capabilities, ErrorCode, Status, WireError};
use tokio::sync::watch;
use uuid::Uuid;

use super::admission::{JobCosts, Ledger, Reservation};
use super::error::{draining, shutting_down};
use super::event::Event;
use super::id::{ClientId, JobKey};
use super::job::{Job, Ticket};
use super::memory::MemoryStore;
use super::metrics::Metrics;
use super::open::OpenJob;
use super::owner::Owner;
use super::place::Place;
use super::state::{queue_full, Next, Shared, Wanted};
use super::store::JobStore;
use super::subscription::Subscription;
use super::work::Work;
use crate::pipeline::{Ask, Budget};

/// Queue places unless configured otherwise. A client that is alone may take a third of them,
/// which is as many jobs as a connection may have.
pub const DEFAULT_QUEUE: usize = 3 * MAX_JOBS_PER_OWNER;

/// Bounds on what jobs keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Places in the queue.
    pub queue: usize,
    /// Bytes of results and previews that all clients together may leave unread.
    pub unread_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: DEFAULT_QUEUE,
            unread_bytes: 2 << 30,
        }
    }
}

/// A model that the device has loaded.
pub struct Model {
    /// The name that jobs ask for it by.
    pub name: Arc<str>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What its jobs take.
    pub costs: Arc<dyn JobCosts>,
}

/// All jobs of one worker. Clones stand for the same jobs. No method waits for the device,
/// except [`next`](Self::next), which the device itself calls, and [`stopped`](Self::stopped).
#[derive(Clone)]
pub struct Jobs {
    pub(super) shared: Arc<Shared>,
    /// The model that jobs go to.
    model: Arc<Model>,
    started: Instant,
    /// The next client's and the next job's number.
    numbers: Arc<AtomicU64>,
    device_ended: watch::Sender<bool>,
}

/// Whether jobs are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// They are.
    Ok,
    /// The device finishes its current step, and then ends.
    Stopping,
    /// The device has ended.
    Ended,
}

impl Jobs {
    /// The jobs of a worker that has loaded `model` and has `budget` left for them. Events and
    /// results are kept in memory.
    pub fn new(limits: Limits, model: Model, budget: Budget) -> Self {
        let store = Arc::new(MemoryStore::new(limits.unread_bytes));
        Self::with_store(limits.queue, store, model, budget)
    }

    /// As [`new`](Self::new), with `queue` places and another store.
    pub fn with_store(
        queue: usize,
        store: Arc<dyn JobStore>,
        model: Model,
        budget: Budget,
    ) -> Self {
        Self {
            shared: Arc::new(Shared::new(queue, store, Ledger::new(budget))),
            model: Arc::new(model),
            started: Instant::now(),
            numbers: Arc::new(AtomicU64::new(1)),
            device_ended: watch::Sender::new(false),
        }
    }

    /// What the loaded model can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.model.capabilities
    }

    /// Subscribes a new client, with a number of its own.
    pub fn subscribe(&self) -> Subscription {
        Subscription::new(self.shared.store.clone(), self.number())
    }

    fn number(&self) -> u64 {
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
        }
    }

    /// Counters and histograms.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Bytes of results and previews that clients have not read.
    pub fn unread_bytes(&self) -> u64 {
        self.shared.store.unread_bytes()
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
        if *self.device_ended.borrow() {
            Health::Ended
        } else if self.shared.lock().stopping {
            Health::Stopping
        } else {
            Health::Ok
        }
    }

    /// Waits until the device has ended.
    pub async fn stopped(&self) {
        // Fails only when the sender is gone, and this handle holds one.
        let _ = self.device_ended.subscribe().wait_for(|ended| *ended).await;
    }
}

/// What a client's calls come down to.
impl Jobs {
    /// Reserves memory for a job by its shapes.
    pub(super) fn admit(&self, ask: Ask) -> Result<Reservation, WireError> {
        self.shared.ledger.admit(&*self.model.costs, ask)
    }

    /// Reserves a queue place and a UUID for a job of `owner`.
    ///
    /// # Errors
    /// `ShuttingDown`, also while the worker is being drained; `UnknownJob` if the UUID is taken; `QueueFull` if the owner's share of
    /// the queue is used up.
    pub(super) fn reserve(&self, owner: &Owner, id: Uuid) -> Result<Place, WireError> {
        let mut state = self.shared.lock();
        if state.stopping {
            return Err(shutting_down());
        }
        if state.draining {
            return Err(draining());
        }
        if state.has(id) {
            return Err(WireError::new(
                ErrorCode::UnknownJob,
                "A job with this UUID is already there.",
                "Choose a new UUID for every job.",
            ));
        }
        state
            .queue
            .reserve(owner)
            .map_err(|full| queue_full(&full))?;
        state.reserved.insert(id);
        Ok(Place::new(self.shared.clone(), owner.clone(), id))
    }

    /// Queues a client's job at its place.
    ///
    /// # Errors
    /// `ShuttingDown`, which is then stored as the job's end too.
    pub(super) fn submit(
        &self,
        client: ClientId,
        place: Place,
        open: OpenJob,
        work: Work,
        reservation: Reservation,
    ) -> Result<(), WireError> {
        let key = self.open_log(client, place.id, open);
        let ticket = Ticket::new(key, place.id, work.name(), self.shared.store.clone());
        let mut state = self.shared.lock();
        if state.stopping {
            drop(state);
            ticket.report(Event::Failed(shutting_down()));
            return Err(shutting_down());
        }
        let job = Job {
            ticket,
            model: self.model.name.clone(),
            work,
            reservation,
            reported_position: None,
        };
        state.reserved.remove(&place.id);
        state.queue.push(&place.owner, job);
        state.report_positions();
        drop(state);
        self.shared.wake();
        Ok(())
    }

    /// Ends a client's job that was admitted and never queued.
    pub(super) fn end_unqueued(&self, client: ClientId, id: Uuid, open: OpenJob, event: Event) {
        let key = self.open_log(client, id, open);
        self.shared.store.append(key, event);
    }

    fn open_log(&self, client: ClientId, id: Uuid, open: OpenJob) -> JobKey {
        let number = self.number();
        let key = JobKey { client, number };
        self.shared.store.put(key, id, open);
        key
    }

    /// Drops a client's job, if it has not ended.
    pub(super) fn cancel(&self, client: ClientId, id: Uuid) {
        self.shared.cancel(client, id);
    }

    /// Drops every job of a client that is gone.
    pub(super) fn drop_client(&self, client: ClientId) {
        self.shared.drop_client(client);
    }
}

/// The device's side.
impl Jobs {
    /// Takes the device's next job.
    pub fn next(&self, wanted: &Wanted<'_>) -> Next {
        self.shared.next(wanted)
    }

    /// Ends a job with its last event. What comes after a job's end is ignored.
    pub fn end(&self, ticket: &Ticket, event: Event) {
        self.shared.end(&mut self.shared.lock(), ticket, event);
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
        self.device_ended.send_replace(true);
    }
}
