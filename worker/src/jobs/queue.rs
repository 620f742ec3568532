//! The waiting queue, fair between owners.
//!
//! Parties [take turns](super::turns), and within a party owners do, one job each. So an
//! owner's share of the device depends on its party alone, and a party's on no number of owners
//! that it may invent. The jobs of one owner run by priority, then by deadline, then in order
//! of arrival.
//!
//! A job that does not fit beside those under way does not hold up later ones of its owner that
//! do, but only [`MOST_OVERTAKINGS`] times: after that its owner has no other turn until it
//! fits. Priorities do not count as overtaking, since they are the owner's own wish.
//!
//! Only owners that hold a place are known, so the queue's memory is bounded by its places.

use std::cmp::Reverse;
use std::time::Instant;

use ovis_protocol::Priority;

use super::owner::{Owner, OwnerId, Party};
use super::turns::{Member, Turns};

/// How often jobs of the same owner may overtake one that does not fit. A poster lets that many
/// previews pass, and then the owner's later ones wait until it has begun.
const MOST_OVERTAKINGS: u8 = 8;

/// Bounds on the places of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// All places.
    pub capacity: usize,
    /// Most places of one owner of a party, even if its [share](FairQueue::reserve) is larger.
    pub per_owner: usize,
}

impl QueueLimits {
    /// So many places, of which an owner may hold its whole share.
    pub fn of_capacity(capacity: usize) -> Self {
        Self {
            capacity,
            per_owner: capacity,
        }
    }
}

/// Where a job stands among its owner's jobs. By default: in order of arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Higher ones come first.
    pub priority: Priority,
    /// Among jobs of equal priority, the earlier one comes first, and one without comes last.
    pub deadline: Option<Instant>,
}

impl Order {
    fn key(&self) -> impl Ord {
        let Self { priority, deadline } = *self;
        (Reverse(priority), deadline.is_none(), deadline)
    }

    fn has_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// Why there was no place: how many there are and who holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The worker's queue has no place for another job of this client: it has {owner} of the \
     {capacity} places and may now have {most}; all clients with its address or token have \
     {party}, and {free} are free."
)]
pub struct Full {
    /// Places that the owner holds.
    pub owner: usize,
    /// Places that its party holds, including the owner's.
    pub party: usize,
    /// Free places.
    pub free: usize,
    /// Most places that the owner could hold now.
    pub most: usize,
    /// All places, free or not.
    pub capacity: usize,
}

/// A job and where it stands.
struct Waiting<T> {
    order: Order,
    /// How many later jobs of its owner were taken before it, because it did not fit.
    overtaken: u8,
    job: T,
}

/// One owner's jobs.
struct Lane<T> {
    owner: OwnerId,
    /// Places reserved for jobs whose tensors are still arriving.
    reserved: usize,
    /// The next one first.
    jobs: Vec<Waiting<T>>,
}

impl<T> Lane<T> {
    fn new(owner: OwnerId) -> Self {
        Self {
            owner,
            reserved: 0,
            jobs: Vec::new(),
        }
    }

    fn places(&self) -> usize {
        self.jobs.len() + self.reserved
    }

    fn push(&mut self, order: Order, job: T) {
        let after = |waiting: &Waiting<T>| waiting.order.key() <= order.key();
        let at = self.jobs.partition_point(after);
        let overtaken = 0;
        let waiting = Waiting {
            order,
            overtaken,
            job,
        };
        self.jobs.insert(at, waiting);
    }

    /// The first job that `fits`, but none behind a job that may not be overtaken any more.
    fn first(&self, fits: impl Fn(&T) -> bool) -> Option<usize> {
        for (at, waiting) in self.jobs.iter().enumerate() {
            if fits(&waiting.job) {
                return Some(at);
            }
            if waiting.overtaken >= MOST_OVERTAKINGS {
                return None;
            }
        }
        None
    }

    fn take(&mut self, at: usize) -> T {
        for waiting in &mut self.jobs[..at] {
            waiting.overtaken += 1;
        }
        self.jobs.remove(at).job
    }
}

impl<T> Member for Lane<T> {
    fn waits(&self) -> bool {
        !self.jobs.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.places() == 0
    }
}

/// All owners of one party.
struct Lanes<T> {
    party: Party,
    lanes: Turns<Lane<T>>,
}

impl<T> Lanes<T> {
    fn new(party: Party) -> Self {
        Self {
            party,
            lanes: Turns::new(),
        }
    }

    fn places(&self) -> usize {
        self.lanes.iter().map(Lane::places).sum()
    }
}

impl<T> Member for Lanes<T> {
    fn waits(&self) -> bool {
        self.lanes.iter().any(Member::waits)
    }

    fn is_empty(&self) -> bool {
        self.lanes.iter().all(Member::is_empty)
    }
}

/// The queue. `T` is the job.
pub struct FairQueue<T> {
    parties: Turns<Lanes<T>>,
    limits: QueueLimits,
}

impl<T> FairQueue<T> {
    /// An empty queue.
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            parties: Turns::new(),
            limits,
        }
    }

    /// Number of waiting jobs, without reserved places.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Reserves a place until [`push`](Self::push) or [`release`](Self::release).
    ///
    /// A party may hold no more places than are free, and an owner no more than its party may
    /// still take, nor more than [`QueueLimits::per_owner`]. So there is always room for others:
    /// of 192 places, a single owner gets 64, one party 96, and the next party 48.
    ///
    /// # Errors
    /// The owner's share is used up; see [`Full`].
    pub fn reserve(&mut self, owner: &Owner) -> Result<(), Full> {
        let QueueLimits {
            capacity,
            per_owner,
        } = self.limits;
        let taken: usize = self.parties.iter().map(Lanes::places).sum();
        let free = capacity.saturating_sub(taken);
        let party = self.parties.iter().find(|at| at.party == owner.party);
        let lane = party.and_then(|at| at.lanes.iter().find(|lane| lane.owner == owner.id));
        let party = party.map_or(0, Lanes::places);
        let held = lane.map_or(0, Lane::places);
        let most = per_owner.min(free.saturating_sub(party));
        if held >= most {
            return Err(Full {
                owner: held,
                party,
                free,
                most,
                capacity,
            });
        }
        self.change(owner, |lane| lane.reserved += 1);
        Ok(())
    }

    /// Whether a place is free.
    pub fn has_room(&self) -> bool {
        let taken: usize = self.parties.iter().map(Lanes::places).sum();
        taken < self.limits.capacity
    }

    /// Gives a reserved place back.
    pub fn release(&mut self, owner: &Owner) {
        self.change(owner, |lane| {
            lane.reserved = lane.reserved.saturating_sub(1);
        });
    }

    /// Queues a job at a [reserved](Self::reserve) place.
    pub fn push(&mut self, owner: &Owner, order: Order, job: T) {
        self.change(owner, |lane| {
            lane.reserved = lane.reserved.saturating_sub(1);
            lane.push(order, job);
        });
    }

    /// Changes an owner's lane.
    fn change(&mut self, owner: &Owner, change: impl FnOnce(&mut Lane<T>)) {
        self.parties.change(
            |at| at.party == owner.party,
            || Lanes::new(owner.party.clone()),
            |at| {
                let is_it = |lane: &Lane<T>| lane.owner == owner.id;
                at.lanes.change(is_it, || Lane::new(owner.id), change);
            },
        );
    }

    /// Takes the next job that `fits`: of the first party and owner in turn that have one, the
    /// first in that owner's order.
    pub fn pop_if(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let next = |at: &Lanes<T>| {
            let mut lanes = at.lanes.line().enumerate();
            lanes.find_map(|(lane, jobs)| Some((lane, jobs.first(&fits)?)))
        };
        let parties = self.parties.line().enumerate();
        let mut found = parties.filter_map(|(party, at)| Some((party, next(at)?)));
        let (party, (lane, job)) = found.next()?;
        drop(found);
        let take = |at: &mut Lanes<T>| at.lanes.serve(lane, |lane| lane.take(job));
        Some(self.parties.serve(party, take))
    }

    /// Removes every job that `matches`, wherever it stands.
    pub fn remove(&mut self, matches: impl Fn(&T) -> bool) -> Vec<T> {
        self.extract(|waiting| matches(&waiting.job))
    }

    /// Removes every job whose deadline has passed.
    pub fn take_expired(&mut self, now: Instant) -> Vec<T> {
        self.extract(|waiting| waiting.order.has_expired(now))
    }

    fn extract(&mut self, matches: impl Fn(&Waiting<T>) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        self.parties.change_all(|at| {
            at.lanes.change_all(|lane| {
                let matching = lane.jobs.extract_if(.., |waiting| matches(waiting));
                removed.extend(matching.map(|waiting| waiting.job));
            });
        });
        removed
    }

    /// Every job, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let lanes = self.parties.iter().flat_map(|at| at.lanes.iter());
        lanes.flat_map(|lane| lane.jobs.iter().map(|waiting| &waiting.job))
    }

    /// Every job, in the order in which they will run if each fits when its turn comes and no
    /// more arrive.
    pub fn in_order(&mut self) -> Vec<&mut T> {
        let mut order = Vec::new();
        for at in self.parties.line_mut() {
            let lanes = at.lanes.line_mut();
            let jobs = lanes.flat_map(|lane| (0..).zip(&mut lane.jobs));
            order.extend((0..).zip(by_turn(jobs.collect::<Vec<(usize, _)>>())));
        }
        let jobs = by_turn(order).into_iter();
        jobs.map(|waiting| &mut waiting.job).collect()
    }
}

/// Puts what has a number of a turn, member by member, in the order in which members take turns.
fn by_turn<T>(mut members: Vec<(usize, T)>) -> Vec<T> {
    // Stable: within a turn, members keep their order.
    members.sort_by_key(|(turn, _)| *turn);
    members.into_iter().map(|(_, job)| job).collect()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
