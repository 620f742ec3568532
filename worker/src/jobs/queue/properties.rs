//! What holds for every sequence of calls.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Owner `n % 3` of address `n / 3`.
fn owner(n: u8) -> Owner {
    Owner::new(IpAddr::from([10, 0, 0, n / 3]), (n % 3).to_string())
}

/// A job: its number, which says when it arrived, its owner, its order and its size.
#[derive(Clone, Debug, PartialEq)]
struct Job {
    number: usize,
    owner: u8,
    order: Order,
    size: u32,
}

#[derive(Clone, Debug)]
enum Call {
    Reserve(u8),
    Release(u8),
    Push(u8, Priority, Option<u64>, u32),
    /// Pops a job of at most this size.
    Pop(u32),
    Remove(Index),
    /// Takes out those whose deadline is at most so many seconds after the start.
    Expire(u64),
}

fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![
        Just(Priority::Low),
        Just(Priority::Normal),
        Just(Priority::High)
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let owner = || 0..9_u8;
    prop_oneof![
        4 => owner().prop_map(Call::Reserve),
        1 => owner().prop_map(Call::Release),
        4 => (owner(), priority(), prop::option::of(0..99_u64), 0..4_u32)
            .prop_map(|(owner, priority, deadline, size)| {
                Call::Push(owner, priority, deadline, size)
            }),
        2 => (0..5_u32).prop_map(Call::Pop),
        1 => any::<Index>().prop_map(Call::Remove),
        1 => (0..20_u64).prop_map(Call::Expire),
    ]
}

/// The queue, and plain lists of what must be in it.
struct Checked {
    queue: FairQueue<Job>,
    limits: QueueLimits,
    reserved: HashMap<u8, usize>,
    jobs: Vec<Job>,
    begun: Instant,
    pushed: usize,
}

impl Checked {
    fn new(limits: QueueLimits) -> Self {
        Self {
            queue: FairQueue::new(limits),
            limits,
            reserved: HashMap::new(),
            jobs: Vec::new(),
            begun: Instant::now(),
            pushed: 0,
        }
    }

    fn places(&self, of: impl Fn(u8) -> bool) -> usize {
        let reserved = self.reserved.iter().filter(|(owner, _)| of(**owner));
        let jobs = self.jobs.iter().filter(|job| of(job.owner));
        reserved.map(|(_, places)| places).sum::<usize>() + jobs.count()
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Reserve(n) => {
                let free = self.limits.capacity - self.places(|_| true);
                let party = self.places(|other| other / 3 == n / 3);
                let held = self.places(|other| other == n);
                let may = held < free.saturating_sub(party) && held < self.limits.per_owner;
                assert_eq!(self.queue.reserve(&owner(n)).is_ok(), may);
                if may {
                    *self.reserved.entry(n).or_default() += 1;
                }
            }
            Call::Release(n) => {
                self.queue.release(&owner(n));
                let places = self.reserved.entry(n).or_default();
                *places = places.saturating_sub(1);
            }
            Call::Push(n, priority, deadline, size) => {
                let Some(places) = self.reserved.get_mut(&n).filter(|places| **places > 0) else {
                    return;
                };
                *places -= 1;
                let deadline = deadline.map(|after| self.begun + Duration::from_secs(after));
                let job = Job {
                    number: self.pushed,
                    owner: n,
                    order: Order { priority, deadline },
                    size,
                };
                self.pushed += 1;
                self.queue.push(&owner(n), job.order, job.clone());
                self.jobs.push(job);
            }
            Call::Pop(most) => {
                if let Some(job) = self.queue.pop_if(|job| job.size <= most) {
                    self.is_first(&job, most);
                    self.jobs.retain(|other| *other != job);
                }
            }
            Call::Remove(index) => {
                if self.jobs.is_empty() {
                    return;
                }
                let job = self.jobs.remove(index.index(self.jobs.len()));
                assert_eq!(self.queue.remove(|other| *other == job), [job]);
            }
            Call::Expire(after) => {
                let now = self.begun + Duration::from_secs(after);
                let is_over = |job: &mut Job| job.order.deadline.is_some_and(|end| end <= now);
                let mut expected: Vec<_> = self.jobs.extract_if(.., is_over).collect();
                let mut expired = self.queue.take_expired(now);
                expected.sort_by_key(|job| job.number);
                expired.sort_by_key(|job| job.number);
                assert_eq!(expired, expected);
            }
        }
    }

    /// A job that was popped because it is at most so large is the first such one of its owner.
    fn is_first(&self, popped: &Job, most: u32) {
        assert!(popped.size <= most);
        let key = |job: &Job| (job.order.key(), job.number);
        for job in &self.jobs {
            let is_candidate = job.owner == popped.owner && job.size <= most;
            assert!(
                !is_candidate || key(popped) <= key(job),
                "{popped:?} {job:?}"
            );
        }
    }

    /// The queue holds what it must, and knows nobody without a place.
    fn check(&mut self) {
        let parties = self.queue.parties.iter();
        let lanes: Vec<_> = parties.flat_map(|at| at.lanes.iter()).collect();
        assert!(lanes.iter().all(|lane| lane.places() > 0));
        let places: usize = lanes.iter().map(|lane| lane.places()).sum();
        assert_eq!(places, self.places(|_| true));
        assert!(places <= self.limits.capacity);
        for n in 0..9 {
            assert!(self.places(|other| other == n) <= self.limits.per_owner);
        }
        let mut jobs: Vec<_> = self.queue.iter().map(|job| job.number).collect();
        jobs.sort_unstable();
        let expected: Vec<_> = self.jobs.iter().map(|job| job.number).collect();
        assert_eq!(jobs, expected);
        assert_eq!(self.queue.len(), jobs.len());
    }
}

proptest! {
    #[test]
    fn places_never_leak_and_the_order_is_the_one_reported(
        capacity in 1..40_usize,
        per_owner in 1..20_usize,
        calls in prop::collection::vec(call(), 0..150),
    ) {
        let mut checked = Checked::new(QueueLimits { capacity, per_owner });
        for call in calls {
            checked.call(call);
            checked.check();
        }
        let numbers = |jobs: Vec<Job>| jobs.iter().map(|job| job.number).collect::<Vec<_>>();
        let order = checked.queue.in_order().into_iter().map(|job| job.clone()).collect();
        let drained = std::iter::from_fn(|| checked.queue.pop_if(|_| true)).collect();
        prop_assert_eq!(numbers(order), numbers(drained));
        for (n, places) in checked.reserved {
            (0..places).for_each(|_| checked.queue.release(&owner(n)));
        }
        prop_assert_eq!(checked.queue.parties.len(), 0);
    }

    /// Owners 0 and 1 of an address, and addresses 0 and 1, always have jobs waiting, while
    /// others come and go as they like.
    #[test]
    fn equal_owners_have_equal_counts_at_any_time(
        others in prop::collection::vec((0..9_u8, any::<bool>()), 1..200),
    ) {
        let mut checked = Checked::new(QueueLimits::of_capacity(10_000));
        let push = |checked: &mut Checked, n| {
            checked.call(Call::Reserve(n));
            checked.call(Call::Push(n, Priority::Normal, None, 0));
        };
        let mut owners = [0_usize; 9];
        let mut popped = Vec::new();
        for (other, pops) in others {
            for steady in [0, 1, 3, 4] {
                if !checked.jobs.iter().any(|job| job.owner == steady) {
                    push(&mut checked, steady);
                    push(&mut checked, steady);
                }
            }
            if ![0, 1, 3, 4].contains(&other) {
                push(&mut checked, other);
            }
            if pops {
                let job = checked.queue.pop_if(|_| true).unwrap();
                checked.jobs.retain(|other| *other != job);
                owners[usize::from(job.owner)] += 1;
                // A steady owner that has just had its last job has not waited since.
                push(&mut checked, job.owner);
                popped.push(job.owner);
            }
            prop_assert!(owners[0].abs_diff(owners[1]) <= 1, "{popped:?}");
            prop_assert!(owners[3].abs_diff(owners[4]) <= 1, "{popped:?}");
            let address = |n: usize| owners[3 * n..][..3].iter().sum::<usize>();
            prop_assert!(address(0).abs_diff(address(1)) <= 1, "{popped:?}");
        }
    }

    /// A job of an owner that has not just been served is served after as many others as its
    /// position says, however many new owners of its address come meanwhile.
    #[test]
    fn newcomers_delay_nobody_who_waits(
        before in prop::collection::vec(1..20_usize, 1..5),
        newcomers in prop::collection::vec(0..4_usize, 20),
    ) {
        let mut queue = FairQueue::new(QueueLimits::of_capacity(10_000));
        let address = IpAddr::from([10, 0, 0, 1]);
        let push = |queue: &mut FairQueue<usize>, name: String, job| {
            let owner = Owner::new(address, name);
            queue.reserve(&owner).unwrap();
            queue.push(&owner, Order::default(), job);
        };
        for (owner, jobs) in before.iter().enumerate() {
            (0..*jobs).for_each(|_| push(&mut queue, owner.to_string(), 0));
        }
        push(&mut queue, "who waits".into(), 1);
        let position = queue.in_order().iter().position(|job| **job == 1).unwrap();
        prop_assert_eq!(position, before.len());
        for (turn, newcomers) in newcomers.iter().enumerate().take(position + 1) {
            for new in 0..*newcomers {
                push(&mut queue, format!("new {turn} {new}"), 2);
            }
            let job = queue.pop_if(|_| true).unwrap();
            prop_assert_eq!(job == 1, turn == position);
        }
    }

    /// Owner 0 has no job when it is served, and submits its next one some turns later. If it
    /// had had that job before, it would have had its turn as early or earlier.
    #[test]
    fn leaving_and_returning_gains_nothing_whatever_the_others_do(
        before in prop::collection::vec((0..3_u8, 0..2_u32, 0..3_u32), 0..40),
        after in prop::collection::vec((1..3_u8, 0..2_u32, 0..3_u32), 0..20),
    ) {
        let push = |queue: &mut FairQueue<(u8, u32)>, n, size| {
            queue.reserve(&owner(n)).unwrap();
            queue.push(&owner(n), Order::default(), (n, size));
        };
        let both = [true, false].map(|stays| {
            let mut queue = FairQueue::new(QueueLimits::of_capacity(10_000));
            for (n, size, fits) in &before {
                push(&mut queue, *n, *size);
                queue.pop_if(|job| job.1 < *fits);
            }
            let more = usize::from(stays);
            (0..=more).for_each(|_| push(&mut queue, 0, 0));
            // Jobs of the others may not fit meanwhile.
            while queue.iter().filter(|job| job.0 == 0).count() > more {
                queue.pop_if(|job| job.0 == 0 || job.1 == 1);
            }
            queue
        });
        let [mut stays, mut leaves] = both;
        for (n, size, fits) in after {
            push(&mut stays, n, size);
            push(&mut leaves, n, size);
            if stays.pop_if(|job| job.1 < fits).is_some_and(|job| job.0 == 0) {
                return Ok(());
            }
            leaves.pop_if(|job| job.1 < fits);
        }
        push(&mut leaves, 0, 0);
        let position = |queue: &mut FairQueue<(u8, u32)>| {
            queue.in_order().iter().position(|job| job.0 == 0)
        };
        prop_assert!(position(&mut stays) <= position(&mut leaves));
    }

    /// A job that does not fit lets a bounded number of its owner's jobs pass, whatever the
    /// others do, and is then the owner's next.
    #[test]
    fn nothing_is_overtaken_for_ever(
        others in prop::collection::vec((0..9_u8, 0..2_u32), 200),
    ) {
        let mut checked = Checked::new(QueueLimits::of_capacity(10_000));
        checked.call(Call::Reserve(0));
        checked.call(Call::Push(0, Priority::Normal, None, 9));
        let mut passed = 0;
        for (other, size) in others {
            checked.call(Call::Reserve(other));
            checked.call(Call::Push(other, Priority::Normal, None, size));
            if let Some(job) = checked.queue.pop_if(|job| job.size < 9) {
                checked.jobs.retain(|other| *other != job);
                passed += usize::from(job.owner == 0);
            }
        }
        prop_assert!(passed <= usize::from(MOST_OVERTAKINGS));
        let mut rest = std::iter::from_fn(|| checked.queue.pop_if(|_| true));
        let next = rest.find(|job| job.owner == 0);
        prop_assert_eq!(next.map(|job| job.size), Some(9));
    }

    /// Five owners, each of which always has some jobs waiting, with the same sizes in random
    /// order. A job with less steps than any under way has left joins them. Of 100 jobs for
    /// each, everybody gets the same number of steps.
    #[test]
    fn equal_owners_get_equal_steps_of_jobs_of_unequal_sizes(
        are_one_party in any::<bool>(),
        // Far more sets of four than any owner comes to.
        sizes in prop::array::uniform5(prop::collection::vec(
            Just([4_u32, 8, 20, 50]).prop_shuffle(), 125,
        )),
        waiting in 1..5_usize,
    ) {
        let mut queue = FairQueue::new(QueueLimits::of_capacity(10_000));
        let mut submitted = [0; 5];
        let mut submit = |queue: &mut FairQueue<(usize, u32)>, n: usize| {
            let address = if are_one_party { 0 } else { n as u8 };
            let owner = Owner::new(IpAddr::from([10, 0, 0, address]), n.to_string());
            queue.reserve(&owner).unwrap();
            let size = sizes[n][submitted[n] / 4][submitted[n] % 4];
            submitted[n] += 1;
            queue.push(&owner, Order::default(), (n, size));
        };
        (0..5 * waiting).for_each(|i| submit(&mut queue, i % 5));
        let mut steps = [0_u32; 5];
        let mut ended = 0;
        // Owners and steps left of the jobs under way, as the device runs them.
        let mut active: Vec<(usize, u32)> = Vec::new();
        let mut oldest_is_next = false;
        while ended < 500 {
            let least = active.iter().map(|job| job.1).min().unwrap_or(u32::MAX);
            if let Some(job) = queue.pop_if(|job| job.1 < least) {
                active.push(job);
            }
            let shortest = (0..active.len()).min_by_key(|&at| active[at].1).unwrap();
            let at = if oldest_is_next { 0 } else { shortest };
            oldest_is_next = at != 0;
            let (owner, left) = &mut active[at];
            steps[*owner] += 1;
            *left -= 1;
            if *left == 0 {
                submit(&mut queue, *owner);
                active.remove(at);
                ended += 1;
            }
        }
        let (least, most) = (steps.iter().min().unwrap(), steps.iter().max().unwrap());
        prop_assert!(f64::from(*most) <= 1.2 * f64::from(*least), "{steps:?}");
    }
}
