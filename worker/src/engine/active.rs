//! The denoise jobs under way, and whose step is next.
//!
//! A job that has less to do than those under way joins them at the next step; the device
//! then alternates between the one that has waited longest and the one that is soonest done.
//! So a preview never waits for a poster, a poster loses at most every other step, and equal
//! jobs still run one after the other, which is when the first of them is done soonest.

use std::time::{Duration, Instant};

use super::admission::Reservation;
use super::job::Ticket;
use super::ClientId;
use crate::pipeline::Cost;

/// Most denoise jobs under way: each keeps its latents and its text on the device.
const MOST: usize = 4;

/// A denoise job between two steps.
pub(super) struct Active<S> {
    pub client: ClientId,
    pub ticket: Ticket,
    pub state: S,
    pub begun: Instant,
    /// How long each step took. Other jobs' steps do not count.
    pub steps: Vec<Duration>,
    /// Steps to do, at most.
    pub left: u32,
    /// Elements of the latent, which a step's work grows with.
    pub elements: u64,
    /// Its memory.
    pub reservation: Reservation,
}

impl<S> Active<S> {
    fn work_left(&self) -> u64 {
        u64::from(self.left) * self.elements
    }
}

/// The jobs under way, the oldest first.
pub(super) struct ActiveJobs<S> {
    jobs: Vec<Active<S>>,
    /// Whether the oldest had the last step.
    oldest_had_its_turn: bool,
}

/// What a job must be to join those under way.
pub(super) struct Joining {
    clients: Vec<ClientId>,
    has_room: bool,
    least_left: u64,
    /// Bytes of the device that those under way hold between their steps.
    kept: u64,
    /// Bytes more that the largest of their steps takes.
    working: u64,
}

impl Joining {
    /// Whether a denoise job of a client joins: another client's, with less to do.
    pub fn takes(&self, client: ClientId, work: u64) -> bool {
        self.has_room && work < self.least_left && !self.clients.contains(&client)
    }

    /// Whether a job of this cost has memory beside those under way, where operations may take
    /// `room` bytes in all. One operation runs at a time.
    pub fn has_memory_for(&self, cost: Cost, room: Option<u64>) -> bool {
        let working = self.working.max(cost.working);
        let needed = self.kept.saturating_add(cost.kept).saturating_add(working);
        room.is_none_or(|room| needed <= room)
    }
}

impl<S> ActiveJobs<S> {
    pub fn new() -> Self {
        Self {
            jobs: Vec::new(),
            oldest_had_its_turn: false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// A new job, which has the next step.
    pub fn push(&mut self, job: Active<S>) {
        self.jobs.push(job);
        self.oldest_had_its_turn = true;
    }

    /// Who may join; nothing while no job is under way, as then any may start.
    pub fn joining(&self) -> Option<Joining> {
        let least_left = self.jobs.iter().map(Active::work_left).min()?;
        Some(Joining {
            clients: self.jobs.iter().map(|job| job.client).collect(),
            has_room: self.jobs.len() < MOST,
            least_left,
            kept: self.kept(),
            working: self.costs().map(|cost| cost.working).max().unwrap_or(0),
        })
    }

    fn costs(&self) -> impl Iterator<Item = Cost> + '_ {
        self.jobs.iter().map(|job| job.reservation.cost())
    }

    /// Bytes of the device that the jobs in here hold between their steps.
    pub fn kept(&self) -> u64 {
        self.costs().map(|cost| cost.kept).sum()
    }

    /// Takes out the jobs that nobody wants any more.
    pub fn take_cancelled(&mut self) -> Vec<Active<S>> {
        let is_cancelled = |job: &mut Active<S>| job.ticket.is_cancelled();
        self.jobs.extract_if(.., is_cancelled).collect()
    }

    /// Takes out the job whose step is next, with its place, for [`put_back`](Self::put_back).
    pub fn take_next(&mut self) -> Option<(usize, Active<S>)> {
        let soonest = (0..self.jobs.len()).min_by_key(|&i| self.jobs[i].work_left())?;
        let place = if self.oldest_had_its_turn { soonest } else { 0 };
        self.oldest_had_its_turn = !self.oldest_had_its_turn;
        Some((place, self.jobs.remove(place)))
    }

    /// A job that goes on, to where it was.
    pub fn put_back(&mut self, place: usize, job: Active<S>) {
        self.jobs.insert(place, job);
    }

    /// How many times longer than alone a job takes, besides those in here.
    pub fn sharing(&self) -> u32 {
        if self.jobs.is_empty() {
            1
        } else {
            2
        }
    }

    /// All of them, when the engine stops.
    pub fn drain(&mut self) -> impl Iterator<Item = Active<S>> + '_ {
        self.jobs.drain(..)
    }
}
