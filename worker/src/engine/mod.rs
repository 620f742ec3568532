//! Jobs and the one thread that runs them.
//!
//! The thread owns the model and the device. It advances denoise jobs a step at a
//! time, so that a cancel takes effect before the next step and short jobs need
//! not wait for a long one. Jobs wait in one bounded queue, fair
//! between clients. Nothing here knows sockets: events go to an [`EventSink`].

mod active;
mod admission;
mod backend;
mod device;
mod job;
mod queue;
mod shared;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{mpsc, Arc};
use std::time::Instant;

use ovis_protocol::limits::MAX_JOBS_PER_CONNECTION;
use ovis_protocol::{Capabilities, ErrorCode, JobId, Status, WireError};
use tokio::sync::watch;

pub use admission::{JobCosts, Reservation};
pub use backend::Backend;
pub use job::{wire_error, Event, EventSink, Output, Work};
pub use queue::{neighbourhood, Owner};
pub use shared::Counts;

use device::DeviceThread;
use job::{Job, Ticket};
use queue::Full;
use shared::Shared;

use crate::pipeline::Ask;

/// Places the queue has unless told otherwise: a client that is alone may take a third of
/// them, which is as many jobs as a connection may have.
pub const DEFAULT_QUEUE: usize = 3 * MAX_JOBS_PER_CONNECTION;

/// Which connection a job belongs to; a number the engine gave out.
pub type ClientId = u64;

/// The sockets' side of the engine. Clones speak to the same engine; no method
/// waits for the device, except [`stopped`](Self::stopped).
#[derive(Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
    capabilities: Arc<Capabilities>,
    costs: Arc<dyn JobCosts>,
    clients: Arc<AtomicU64>,
    ended: watch::Receiver<bool>,
}

/// Starts the device thread, makes the model there with `load`, and waits for
/// it. `queue` is the most jobs that may wait.
///
/// # Errors
/// `load`'s own; a panic in it is an error too.
pub fn start<B: Backend, E: From<String> + Send + 'static>(
    queue: usize,
    load: impl FnOnce() -> Result<B, E> + Send + 'static,
) -> Result<EngineHandle, E> {
    let shared = Arc::new(Shared::new(queue));
    let (loaded, wait) = mpsc::channel();
    let (end, ended) = watch::channel(false);
    let thread_shared = shared.clone();
    std::thread::Builder::new()
        .name("device".into())
        .spawn(move || {
            match load() {
                Ok(backend) => {
                    thread_shared.ledger.set_budget(backend.budget());
                    // The receiver waits until this is sent, so it is there.
                    let _ = loaded.send(Ok((backend.capabilities(), backend.costs())));
                    DeviceThread::new(backend, thread_shared).run();
                }
                Err(error) => {
                    let _ = loaded.send(Err(error));
                }
            }
            let _ = end.send(true);
        })
        .map_err(|error| format!("the device thread cannot start: {error}"))?;
    let (capabilities, costs) = wait
        .recv()
        .map_err(|_| E::from("loading the model failed unexpectedly; see above".to_owned()))??;
    Ok(EngineHandle {
        shared,
        capabilities: Arc::new(capabilities),
        costs,
        clients: Arc::new(AtomicU64::new(1)),
        ended,
    })
}

impl EngineHandle {
    /// What the loaded model can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// A number for a new client.
    pub fn new_client(&self) -> ClientId {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a place in the queue for a job of `owner` whose tensors are still to come. It
    /// is given back when the value is dropped.
    ///
    /// # Errors
    /// The engine is stopping, the UUID is taken, or there is no place for this owner.
    pub fn reserve(&self, owner: &Owner, id: JobId) -> Result<Place, WireError> {
        let mut state = self.shared.lock();
        if state.stopping {
            return Err(shared::shutting_down());
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
        Ok(Place {
            shared: self.shared.clone(),
            owner: owner.clone(),
            id,
        })
    }

    /// Takes the memory of a job, by its shapes alone, for [`submit`](Self::submit).
    ///
    /// # Errors
    /// There is too little, with the numbers and what would fit.
    pub fn admit(&self, ask: Ask) -> Result<Reservation, WireError> {
        self.shared.ledger.admit(&*self.costs, ask)
    }

    /// Queues a job of the connection `client` at its place.
    ///
    /// # Errors
    /// The engine is stopping.
    pub fn submit(
        &self,
        client: ClientId,
        place: Place,
        work: Work,
        sink: Arc<dyn EventSink>,
        reservation: Reservation,
    ) -> Result<(), WireError> {
        let (id, operation) = (place.id, work.name());
        let uuid = uuid::Uuid::from_bytes(id);
        let span = tracing::info_span!("job", id = %uuid, operation, client);
        let job = Job {
            client,
            id,
            work,
            ticket: Ticket {
                id,
                operation,
                sink,
                cancelled: Arc::default(),
                ended: Arc::default(),
                submitted: Instant::now(),
                span,
            },
            reservation,
            told: None,
        };
        let mut state = self.shared.lock();
        if state.stopping {
            drop(state);
            return Err(shared::shutting_down());
        }
        state.reserved.remove(&id);
        state.queue.push(&place.owner, job);
        state.tell_positions();
        drop(state);
        self.shared.wake();
        Ok(())
    }

    /// Drops a job of this client, if it is still there.
    pub fn cancel(&self, client: ClientId, id: JobId) {
        self.shared.lock().cancel(client, id);
    }

    /// Drops every job of a client that is gone.
    pub fn drop_client(&self, client: ClientId) {
        self.shared.lock().drop_client(client);
    }

    /// How the engine is.
    pub fn status(&self) -> Status {
        let state = self.shared.lock();
        Status {
            queued: state.queue.len() as u32,
            running: state.running.len() as u32,
            finished: state.counts.ended.values().sum(),
            uptime_seconds: self.shared.started.elapsed().as_secs_f64(),
            device_bytes_used: state.memory.0,
            device_bytes_total: state.memory.1,
        }
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts.clone()
    }

    /// Fails what is queued, and the running jobs after the present step.
    pub fn stop(&self) {
        self.shared.lock().stop();
        self.shared.wake();
    }

    /// [Stops](Self::stop), and fails the running jobs at once, whatever the device thread is
    /// still busy with.
    pub fn abandon(&self) {
        let mut state = self.shared.lock();
        state.stop();
        state.abandon();
        drop(state);
        self.shared.wake();
    }

    /// Whether jobs are taken.
    pub fn health(&self) -> Health {
        // The thread's end drops its side, and a panic of it too.
        if *self.ended.borrow() || self.ended.has_changed().is_err() {
            Health::Ended
        } else if self.shared.lock().stopping {
            Health::Stopping
        } else {
            Health::Ok
        }
    }

    /// Waits until the device thread has ended.
    pub async fn stopped(&self) {
        // An error means that the thread is gone, which is what we wait for.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

/// Whether an engine takes jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ok,
    /// It finishes the present step.
    Stopping,
    /// The device thread has ended.
    Ended,
}

/// A place in the queue and a UUID, for a job that is still to come. They are given back when
/// it is dropped, unless [`submit`](EngineHandle::submit) has put the job there.
pub struct Place {
    shared: Arc<Shared>,
    owner: Owner,
    id: JobId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.reserved.remove(&self.id) {
            state.queue.release(&self.owner);
        }
    }
}

fn queue_full(full: &Full) -> WireError {
    let Full {
        owner,
        address,
        free,
        capacity,
    } = full;
    WireError::new(
        ErrorCode::QueueFull,
        format!(
            "The worker's queue has no place for another job of this client: it has {owner} of \
             the {capacity} places, all clients at its address have {address}, and {free} are free."
        ),
        "An address gets no more places than are free, and a client no more than that leaves: \
         wait for a job to end, or start the worker with a larger --queue.",
    )
}
