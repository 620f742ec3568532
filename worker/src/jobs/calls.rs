//! What a client's calls come down to.

use std::time::Duration;

use ovis_protocol::{ErrorCode, WireError};
use uuid::Uuid;

use super::admission::{Reservation, WithState};
use super::content::Content;
use super::error::{draining, shutting_down};
use super::event::Event;
use super::id::{ClientId, JobKey, OwnerNumber};
use super::job::{Job, Ticket};
use super::models::Model;
use super::owner::Owner;
use super::place::Place;
use super::queue::Order;
use super::service::Jobs;
use super::state::queue_full;
use super::store::{Attached, Found, NewJob};
use super::submission::{Admitted, Submission};
use super::trace::JobTrace;
use crate::pipeline::Ask;

impl Jobs {
    /// Reserves memory for a job of a model by its shapes, and `state` bytes in addition.
    pub(super) fn admit(
        &self,
        model: &Model,
        ask: Ask,
        state: u64,
    ) -> Result<Reservation, WireError> {
        let costs = WithState {
            costs: &*model.costs,
            bytes: state,
        };
        let admitted = self.shared.ledger.admit(&costs, ask);
        admitted.map_err(|error| self.with_hint(error))
    }

    /// An error with the seconds after which the request may succeed, if waiting helps.
    pub(super) fn with_hint(&self, error: WireError) -> WireError {
        match error.code {
            ErrorCode::QueueFull => error.retry_after(self.shared.lock().retry_after()),
            _ => error,
        }
    }

    /// Reserves a queue place and a UUID for a job of `owner`. If another connection of the owner
    /// holds a place for this UUID, it loses it.
    ///
    /// # Errors
    /// `ShuttingDown`, also while the worker is being drained; `QueueFull` if the owner's share of
    /// the queue is used up.
    pub(super) fn reserve(
        &self,
        owner: &Owner,
        number: OwnerNumber,
        id: Uuid,
    ) -> Result<Place, WireError> {
        let job = self.number();
        let mut state = self.shared.lock();
        if state.stopping {
            return Err(shutting_down());
        }
        if state.draining {
            return Err(draining());
        }
        if let Some((earlier, _)) = state.reserved.get(&(number, id)) {
            let earlier = *earlier;
            state.release(number, id, earlier);
        }
        let retry_after = state.retry_after();
        state
            .queue
            .reserve(owner)
            .map_err(|full| queue_full(&full).retry_after(retry_after))?;
        state.reserved.insert((number, id), (job, owner.clone()));
        Ok(Place::new(self.shared.clone(), number, id, job))
    }

    /// Queues a job of `owner` at its place. Its events go to `client`.
    ///
    /// # Errors
    /// `ShuttingDown`, which is then stored as the job's end too; `UnknownJob` if the job was
    /// submitted again on another connection.
    pub(super) fn submit(
        &self,
        client: Option<ClientId>,
        owner: &Owner,
        admitted: Admitted,
        submission: Submission,
    ) -> Result<(), WireError> {
        let Admitted {
            place,
            open,
            reservation,
            model,
        } = admitted;
        let Submission {
            work,
            options,
            content,
            is_journaled,
        } = submission;
        let key = JobKey {
            owner: place.owner,
            number: place.number,
        };
        let ticket = Ticket::new(key, place.id, work.name(), self.shared.store.clone())
            .with_options(&options, client, &owner.id)
            .of_model(model.name.clone())
            .journaled(is_journaled.then_some(owner.id));
        let mut state = self.shared.lock();
        if !state.holds(place.owner, place.id, place.number) {
            return Err(superseded());
        }
        self.shared.store.put(
            key,
            NewJob {
                id: place.id,
                reader: client,
                content,
                age: Duration::ZERO,
                open,
            },
        );
        if state.stopping {
            drop(state);
            if !is_journaled {
                ticket.report(Event::Failed(shutting_down()));
            }
            return Err(shutting_down());
        }
        let trace = JobTrace::begin(
            self.tracer.as_ref(),
            options.trace.as_deref(),
            ticket.id,
            &owner.id,
            &work,
        );
        let job = Job {
            ticket: ticket.traced(trace),
            model,
            work,
            reservation,
            reported_position: None,
        };
        state.reserved.remove(&(place.owner, place.id));
        let order = Order {
            priority: options.priority,
            deadline: job.ticket.deadline,
        };
        state.queue.push(owner, order, job);
        state.report_positions();
        drop(state);
        self.shared.wake();
        Ok(())
    }

    /// Ends a job that was admitted and never queued.
    pub(super) fn end_unqueued(&self, client: ClientId, admitted: Admitted, event: Event) {
        let Admitted {
            place,
            open,
            reservation,
            ..
        } = admitted;
        let key = JobKey {
            owner: place.owner,
            number: place.number,
        };
        let id = place.id;
        let is_its = self
            .shared
            .lock()
            .holds(place.owner, place.id, place.number);
        // The client may submit another job as soon as it reads of this one's end.
        drop((place, reservation));
        if is_its {
            let new = NewJob {
                id,
                reader: Some(client),
                content: Content::default(),
                age: Duration::ZERO,
                open,
            };
            self.keep_end(key, new, event);
        }
    }

    /// Keeps the end of a job that was never queued here.
    pub(super) fn keep_end(&self, key: JobKey, new: NewJob, end: Event) {
        self.shared.store.put(key, new);
        self.shared.store.append(key, end);
    }

    /// Makes an owner known that has no connection.
    pub(super) fn attach_away(&self, owner: &Owner) -> Attached {
        self.shared.store.attach(owner, None)
    }

    /// A job of a client's owner.
    pub(super) fn find(&self, client: ClientId, id: Uuid) -> Option<Found> {
        self.shared.store.find(client, id)
    }

    /// Makes a client the reader of a job of its owner.
    pub(super) fn claim(&self, client: ClientId, job: JobKey, skip: usize) {
        self.shared.store.claim(client, job, skip);
    }

    /// Forgets a job of a client's owner that has ended.
    pub(super) fn acknowledge(&self, client: ClientId, id: Uuid) {
        if let Some(owner) = self.shared.store.acknowledge(client, id) {
            self.shared.recorder.forget(owner, id);
        }
    }

    /// Drops a job of an owner, if it has not ended.
    pub(super) fn cancel(&self, owner: OwnerNumber, id: Uuid) {
        self.shared
            .cancel(|ticket| ticket.key.owner == owner && ticket.id == id);
    }

    /// Drops every job of an owner that is gone.
    pub(super) fn drop_owner(&self, owner: OwnerNumber) {
        self.shared.drop_owner(owner);
    }
}

/// The error of a job that another connection of its owner has submitted anew.
fn superseded() -> WireError {
    WireError::new(
        ErrorCode::UnknownJob,
        "Another connection of this client has submitted the job again.",
        "Claim the job where its result is wanted.",
    )
}
