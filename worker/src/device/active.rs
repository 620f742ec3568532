//! The denoise jobs under way, and whose step is next.
//!
//! A job with less work than each of those under way has left joins them at the next step,
//! whoever submitted it. The device then alternates between the oldest job and the one with the
//! least work left. So a small image waits for at most one step of a large one, a large one
//! loses at most every other step, and equal jobs still run one after the other, which finishes
//! the first of them earliest.
//!
//! There is no fixed number of jobs under way, beyond which even the smallest would wait for
//! another to end. Instead, while there are [`CROWDED`] or more, only a job of at most half the
//! least work left joins. That halves the least work each time, so there are never more than
//! [`CROWDED`] and the binary logarithm of the largest job's work: 30 jobs between 1 and 2^26
//! elements times steps. Memory ends it earlier: each of them keeps what it was admitted with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::states::StateSchedule;
use crate::jobs::{Job, Reservation, Ticket};
use crate::pipeline::Cost;

/// From how many denoise jobs under way another must be of at most half the least work left.
/// Each keeps its latents and its conditioning on the device.
const CROWDED: usize = 4;

/// A denoise job between two steps.
pub(super) struct Active<S> {
    pub ticket: Ticket,
    /// The model that computes it, by name.
    pub model: Arc<str>,
    pub state: S,
    pub begun: Instant,
    /// Duration of each of its own steps.
    pub steps: Vec<Duration>,
    /// Steps left, at most.
    pub left: u32,
    /// Elements of the latent, which the work of a step is proportional to.
    pub elements: u64,
    pub reservation: Reservation,
    /// States for the client.
    pub for_client: StateSchedule,
    /// States for the journal.
    pub for_journal: StateSchedule,
}

impl<S> Active<S> {
    fn work_left(&self) -> u64 {
        u64::from(self.left) * self.elements
    }
}

/// The jobs under way, the oldest first.
pub(super) struct ActiveJobs<S> {
    jobs: Vec<Active<S>>,
    /// Whether the oldest job had the latest step, or there was none.
    oldest_had_its_turn: bool,
}

/// What a waiting job must satisfy to join those under way.
pub(super) struct Joining {
    /// A denoise job must have less work than this.
    below: u64,
    /// Device bytes that they hold between steps.
    kept: u64,
    /// Device bytes that the largest of their steps takes in addition.
    working: u64,
}

impl Joining {
    /// Whether a job may begin beside those under way, where operations may take `room` bytes
    /// in all: it must fit, and a denoise job must also have less work than they have left.
    pub fn accepts(&self, job: &Job, room: Option<u64>) -> bool {
        self.has_memory_for(job.reservation.cost(), room)
            && match job.work.denoise_work() {
                Some(work) => self.accepts_denoise(work),
                None => true,
            }
    }

    fn accepts_denoise(&self, work: u64) -> bool {
        work < self.below
    }

    /// Whether a job of this cost fits beside those under way. One operation runs at a time.
    fn has_memory_for(&self, cost: Cost, room: Option<u64>) -> bool {
        let working = self.working.max(cost.working);
        let needed = self.kept.saturating_add(cost.kept).saturating_add(working);
        room.is_none_or(|room| needed <= room)
    }
}

impl<S> ActiveJobs<S> {
    pub fn new() -> Self {
        Self {
            jobs: Vec::new(),
            oldest_had_its_turn: true,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether a job in here runs on this model.
    pub fn uses(&self, model: &str) -> bool {
        self.jobs.iter().any(|job| &*job.model == model)
    }

    /// Adds a job. It has less work left than the others, so a step of the oldest comes before
    /// its first one if that is due, and otherwise none.
    pub fn push(&mut self, job: Active<S>) {
        self.jobs.push(job);
    }

    /// Which jobs may join. `None` while no job is under way, as then any may begin.
    pub fn joining(&self) -> Option<Joining> {
        let least_left = self.jobs.iter().map(Active::work_left).min()?;
        let below = match self.jobs.len() {
            ..CROWDED => least_left,
            _ => least_left / 2 + 1,
        };
        Some(Joining {
            below,
            kept: self.kept(),
            working: self.costs().map(|cost| cost.working).max().unwrap_or(0),
        })
    }

    fn costs(&self) -> impl Iterator<Item = Cost> + '_ {
        self.jobs.iter().map(|job| job.reservation.cost())
    }

    /// Device bytes that the jobs in here hold between steps.
    pub fn kept(&self) -> u64 {
        self.costs().map(|cost| cost.kept).sum()
    }

    /// Takes out the jobs that are cancelled or whose deadline has passed.
    pub fn take_given_up(&mut self, now: Instant) -> Vec<Active<S>> {
        let is_given_up =
            |job: &mut Active<S>| job.ticket.is_cancelled() || job.ticket.is_overdue(now);
        self.jobs.extract_if(.., is_given_up).collect()
    }

    /// Takes out the job whose step is next, and its index for [`put_back`](Self::put_back).
    pub fn take_next(&mut self) -> Option<(usize, Active<S>)> {
        let soonest = (0..self.jobs.len()).min_by_key(|&i| self.jobs[i].work_left())?;
        let place = if self.oldest_had_its_turn { soonest } else { 0 };
        self.oldest_had_its_turn = place == 0;
        Some((place, self.jobs.remove(place)))
    }

    /// Puts a job that has steps left back to its index.
    pub fn put_back(&mut self, place: usize, job: Active<S>) {
        self.jobs.insert(place, job);
    }

    /// By how much the jobs in here lengthen the steps of another one.
    pub fn slowdown(&self) -> u32 {
        if self.jobs.is_empty() {
            1
        } else {
            2
        }
    }

    /// Takes out all jobs.
    pub fn drain(&mut self) -> impl Iterator<Item = Active<S>> + '_ {
        self.jobs.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{JobCosts, JobKey, Ledger, MemoryStore};
    use crate::pipeline::{Ask, Budget};

    /// Every job keeps and takes as many bytes as its image has pixels.
    struct Costs;

    impl JobCosts for Costs {
        fn cost(&self, ask: Ask) -> Cost {
            let bytes = match ask {
                Ask::VaeEncode { image } => image.into_iter().product::<usize>() as u64,
                _ => 0,
            };
            Cost {
                kept: bytes,
                working: bytes,
                ..Cost::default()
            }
        }
    }

    /// A job of a client of the same number, with so many steps left of latents of one element.
    fn job(number: u64, left: u32) -> Active<()> {
        let key = JobKey {
            owner: number,
            number,
        };
        let id = uuid::Uuid::from_u128(number.into());
        let store = Arc::new(MemoryStore::new(0));
        let ask = Ask::VaeEncode { image: [1, 10, 1] };
        let ledger = Ledger::new(Budget::OneMemory(None));
        Active {
            ticket: Ticket::new(key, id, "denoise", store),
            model: "test".into(),
            state: (),
            begun: Instant::now(),
            steps: Vec::new(),
            left,
            elements: 1,
            reservation: ledger.admit(&Costs, ask).unwrap(),
            for_client: StateSchedule::new(None, 0),
            for_journal: StateSchedule::new(None, 0),
        }
    }

    /// Runs steps until no job is left. Says whose steps they were.
    fn run(jobs: &mut ActiveJobs<()>) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some((place, mut job)) = jobs.take_next() {
            order.push(job.ticket.key.owner);
            job.left -= 1;
            if job.left > 0 {
                jobs.put_back(place, job);
            }
        }
        order
    }

    #[test]
    fn a_short_job_takes_every_other_step_of_a_long_one() {
        let mut jobs = ActiveJobs::new();
        jobs.push(job(1, 6));
        jobs.push(job(2, 2));
        assert_eq!(run(&mut jobs), [2, 1, 2, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn the_oldest_alternates_with_the_one_that_has_the_least_left() {
        let mut jobs = ActiveJobs::new();
        for (number, left) in [(1, 9), (2, 5), (3, 2)] {
            jobs.push(job(number, left));
        }
        let order = run(&mut jobs);
        assert_eq!(order[..5], [3, 1, 3, 1, 2], "{order:?}");
        let last_of = |number| order.iter().rposition(|&n| n == number);
        assert!(
            last_of(3) < last_of(2) && last_of(2) < last_of(1),
            "{order:?}"
        );
    }

    #[test]
    fn only_jobs_with_less_work_join() {
        let mut jobs = ActiveJobs::new();
        assert!(jobs.joining().is_none());
        assert_eq!(jobs.slowdown(), 1);
        jobs.push(job(1, 6));
        assert_eq!(jobs.slowdown(), 2);
        let joining = jobs.joining().unwrap();
        assert!(joining.accepts_denoise(5));
        assert!(!joining.accepts_denoise(6), "equal jobs run in turn");
        jobs.push(job(2, 4));
        let joining = jobs.joining().unwrap();
        assert!(joining.accepts_denoise(3));
        assert!(!joining.accepts_denoise(5), "it would wait for the other");
    }

    /// However many jobs are under way, a small one has its step after at most one of the
    /// oldest, and there are never more than the work halves.
    #[test]
    fn a_small_job_joins_any_number_and_their_number_is_bounded() {
        let mut jobs = ActiveJobs::new();
        for (number, left) in [(1, 1000), (2, 900), (3, 800), (4, 700)] {
            jobs.push(job(number, left));
        }
        let joining = jobs.joining().unwrap();
        assert!(!joining.accepts_denoise(351));
        assert!(joining.accepts_denoise(350), "a fifth, of half the work");
        for number in 5.. {
            // The largest that may join.
            let joining = jobs.joining().unwrap();
            let Some(left) = (1..1000).rev().find(|&left| joining.accepts_denoise(left)) else {
                break;
            };
            jobs.push(job(number, left as u32));
            let next: Vec<_> = (0..2)
                .map(|_| {
                    let (place, job) = jobs.take_next().unwrap();
                    let client = job.ticket.key.owner;
                    jobs.put_back(place, job);
                    client
                })
                .collect();
            assert!(next.contains(&number), "{next:?} after {number} joined");
        }
        // 700, 350, 175, 87, 43, 21, 10, 5, 2, 1.
        assert_eq!(jobs.jobs.len(), 4 + 9);
    }

    /// A stream of jobs of one step, each of which arrives as the one before it ends.
    #[test]
    fn the_oldest_has_every_other_step_whatever_joins() {
        let mut jobs = ActiveJobs::new();
        jobs.push(job(1, 6));
        let mut order = Vec::new();
        for number in 2..10 {
            if jobs
                .joining()
                .is_some_and(|joining| joining.accepts_denoise(1))
            {
                jobs.push(job(number, 1));
            }
            if let Some((place, mut job)) = jobs.take_next() {
                order.push(job.ticket.key.owner);
                job.left -= 1;
                if job.left > 0 {
                    jobs.put_back(place, job);
                }
            }
        }
        assert_eq!(order, [2, 1, 3, 1, 5, 1, 7, 1]);
    }

    #[test]
    fn a_job_joins_only_where_it_fits_beside_the_others() {
        let mut jobs = ActiveJobs::new();
        jobs.push(job(1, 6));
        jobs.push(job(2, 3));
        assert_eq!(jobs.kept(), 20);
        let joining = jobs.joining().unwrap();
        let cost = |kept, working| Cost {
            kept,
            working,
            ..Cost::default()
        };
        // 20 are kept, and the larger of the operations takes 10 more.
        assert!(joining.has_memory_for(cost(5, 8), Some(35)));
        assert!(!joining.has_memory_for(cost(5, 8), Some(34)));
        assert!(joining.has_memory_for(cost(5, 15), Some(40)));
        assert!(!joining.has_memory_for(cost(5, 15), Some(39)));
        assert!(joining.has_memory_for(cost(5, 15), None));
    }

    #[test]
    fn cancelled_jobs_are_taken_out() {
        let mut jobs = ActiveJobs::new();
        let cancelled = job(1, 6);
        cancelled.ticket.cancel();
        jobs.push(cancelled);
        jobs.push(job(2, 3));
        let taken = jobs.take_given_up(Instant::now());
        assert_eq!((taken.len(), taken[0].ticket.key.owner), (1, 1));
        assert_eq!(run(&mut jobs), [2, 2, 2]);
    }
}
