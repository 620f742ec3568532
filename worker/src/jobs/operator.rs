//! What an operator may see of all jobs, and do to them.

use std::sync::Arc;

use uuid::Uuid;

use super::job::Ticket;
use super::models::Model;
use super::owner::OwnerId;
use super::service::Jobs;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its tensors are arriving.
    Uploading,
    /// In the queue, with this many jobs before it.
    Queued(u32),
    /// On the device.
    Running,
}

/// A job as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its UUID.
    pub id: Uuid,
    /// The owner; none for a job that was never given one.
    pub owner: Option<OwnerId>,
    /// The model that computes it, once the job is in the queue.
    pub model: Option<Arc<str>>,
    /// The operation's name, once the job is in the queue.
    pub operation: Option<&'static str>,
    /// Where it is.
    pub stage: Stage,
    /// The last step that has ended and the number of steps, once a step of a denoise job has.
    pub step: Option<(u32, u32)>,
}

impl Listed {
    fn new(ticket: &Ticket, stage: Stage) -> Self {
        Self {
            id: ticket.id,
            owner: ticket.owner,
            model: Some(ticket.model.clone()),
            operation: Some(ticket.operation),
            stage,
            step: ticket.step(),
        }
    }
}

impl Jobs {
    /// Accepts no new jobs from now on, until the process ends. Those that were accepted go on,
    /// and clients stay connected.
    pub fn drain(&self) {
        self.shared.lock().draining = true;
    }

    /// Whether [`drain`](Self::drain) was called.
    pub fn is_draining(&self) -> bool {
        self.shared.lock().draining
    }

    /// The jobs on the device, then those in the queue, in the order in which they run, and then
    /// those whose tensors are arriving.
    pub fn list(&self) -> Vec<Listed> {
        let mut state = self.shared.lock();
        let running = state.running.iter();
        let mut all: Vec<_> = running.map(|t| Listed::new(t, Stage::Running)).collect();
        let queued = (0..).zip(state.queue.in_order());
        all.extend(queued.map(|(position, job)| Listed::new(&job.ticket, Stage::Queued(position))));
        let reserved = state.reserved.iter();
        all.extend(reserved.map(|((_, id), (_, owner))| Listed {
            id: *id,
            owner: Some(owner.id),
            model: None,
            operation: None,
            stage: Stage::Uploading,
            step: None,
        }));
        all
    }

    /// Asks the device to unload a model before its next operation. Returns false, and asks for
    /// nothing, if the model runs a job. The next job for it loads it again.
    pub fn unload(&self, model: &Model) -> bool {
        let mut state = self.shared.lock();
        if state.running.iter().any(|job| job.model == model.name) {
            return false;
        }
        if model.is_loaded() && !state.unloads.contains(&model.name) {
            state.unloads.push(model.name.clone());
        }
        drop(state);
        self.shared.wake();
        true
    }

    /// Cancels the jobs with this UUID that wait or run, whoever has them, and returns how many
    /// there were. A UUID names a job among those of its owner, so there may be several.
    pub fn cancel_any(&self, id: Uuid) -> usize {
        self.shared.cancel(|ticket| ticket.id == id)
    }
}
