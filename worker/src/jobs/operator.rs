//! What an operator may see of all jobs, and do to them.

use uuid::Uuid;

use super::event::Event;
use super::id::ClientId;
use super::job::Ticket;
use super::service::Jobs;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
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
    /// The operation's name.
    pub operation: &'static str,
    /// The client that has it.
    pub client: ClientId,
    /// Where it is.
    pub stage: Stage,
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

    /// The jobs on the device, and then those in the queue, in the order in which they run.
    pub fn list(&self) -> Vec<Listed> {
        let listed = |ticket: &Ticket, stage| Listed {
            id: ticket.id,
            operation: ticket.operation,
            client: ticket.client(),
            stage,
        };
        let mut state = self.shared.lock();
        let running = state.running.iter();
        let mut all: Vec<_> = running.map(|t| listed(t, Stage::Running)).collect();
        let queued = (0..).zip(state.queue.in_order());
        all.extend(queued.map(|(position, job)| listed(&job.ticket, Stage::Queued(position))));
        all
    }

    /// Cancels the jobs with this UUID, whoever has them, and returns how many there were. A
    /// UUID names a job among those of its owner, so there may be several.
    pub fn cancel_any(&self, id: Uuid) -> usize {
        let shared = &self.shared;
        let mut state = shared.lock();
        let is_it = |ticket: &Ticket| ticket.id == id;
        let mut tickets: Vec<_> = state.running.iter().filter(|t| is_it(t)).cloned().collect();
        for ticket in &tickets {
            ticket.cancel();
        }
        let queued = state.queue.remove(|job| is_it(&job.ticket));
        tickets.extend(queued.into_iter().map(|job| job.ticket));
        for ticket in &tickets {
            shared.end(&mut state, ticket, Event::Cancelled);
        }
        state.report_positions();
        tickets.len()
    }
}
