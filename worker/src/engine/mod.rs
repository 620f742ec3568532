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

use ovis_protocol::{Capabilities, ErrorCode, JobId, Status, WireError};
use tokio::sync::watch;

pub use admission::{JobCosts, Reservation};
pub use backend::Backend;
pub use job::{wire_error, Event, EventSink, Output, Work};
pub use queue::ClientId;
pub use shared::Counts;

use device::DeviceThread;
use job::{Job, Ticket};
use shared::Shared;

use crate::pipeline::Ask;

/// Jobs the queue holds unless told otherwise.
pub const DEFAULT_QUEUE: usize = 64;

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

    /// Whether a job of this UUID would be taken now.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, id: JobId) -> Result<(), WireError> {
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
        if !state.queue.has_room() {
            return Err(queue_full(state.queue.len()));
        }
        Ok(())
    }

    /// Takes the memory of a job, by its shapes alone, for [`submit`](Self::submit).
    ///
    /// # Errors
    /// There is too little, with the numbers and what would fit.
    pub fn reserve(&self, ask: Ask) -> Result<Reservation, WireError> {
        self.shared.ledger.admit(&*self.costs, ask)
    }

    /// Queues a job.
    ///
    /// # Errors
    /// As [`admits`](Self::admits).
    pub fn submit(
        &self,
        client: ClientId,
        id: JobId,
        work: Work,
        sink: Arc<dyn EventSink>,
        reservation: Reservation,
    ) -> Result<(), WireError> {
        // Between this look and the push another client may take the last
        // place; the push looks again.
        self.admits(id)?;
        let operation = work.name();
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
            return Err(shared::shutting_down());
        }
        if state.queue.push(client, job).is_err() {
            return Err(queue_full(state.queue.len()));
        }
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

    /// Fails what is queued, and the running job after its present step.
    pub fn stop(&self) {
        self.shared.lock().stop();
        self.shared.wake();
    }

    /// Fails the running jobs at once, without waiting for their present step; the device gives
    /// them up as soon as it can.
    pub fn abandon(&self) {
        self.shared.lock().abandon();
    }

    /// Waits until the device thread has ended.
    pub async fn stopped(&self) {
        // An error means that the thread is gone, which is what we wait for.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

fn queue_full(jobs: usize) -> WireError {
    WireError::new(
        ErrorCode::QueueFull,
        format!("The worker's queue is full ({jobs} jobs)."),
        "Wait for a job to end, or start the worker with a larger --queue.",
    )
}
