//! The waiting queue, fair between owners.
//!
//! Addresses take turns, and within an address clients do, by start-time fair queueing: each
//! has a tag, its virtual start time counted in jobs. The lowest tag is served next and then
//! advances by one. A newcomer, or an owner that returns, starts at the current virtual time
//! or at its own tag, whichever is later, so disconnecting and returning gains nothing.

use std::collections::VecDeque;

use super::owner::{Owner, OwnerId, Party};

/// Why there was no place: how many there are and who holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Places that the owner holds.
    pub owner: usize,
    /// Places that its address holds, including the owner's.
    pub address: usize,
    /// Free places.
    pub free: usize,
    /// All places, free or not.
    pub capacity: usize,
}

/// One client's jobs.
struct Lane<T> {
    name: OwnerId,
    /// Virtual start time of its next job.
    tag: u64,
    /// Places reserved for jobs whose tensors are still arriving.
    reserved: usize,
    jobs: VecDeque<T>,
}

impl<T> Lane<T> {
    fn places(&self) -> usize {
        self.jobs.len() + self.reserved
    }
}

/// All clients at one address.
struct Address<T> {
    address: Party,
    /// Virtual start time of its next job.
    tag: u64,
    /// Current virtual time here: the highest tag of a client that was served.
    now: u64,
    /// In order of arrival, which breaks ties.
    lanes: Vec<Lane<T>>,
}

impl<T> Address<T> {
    fn places(&self) -> usize {
        self.lanes.iter().map(Lane::places).sum()
    }
}

/// The queue. `T` is the job.
pub struct FairQueue<T> {
    /// In order of arrival, which breaks ties.
    addresses: Vec<Address<T>>,
    /// Current virtual time: the highest tag of an address that was served.
    now: u64,
    capacity: usize,
}

impl<T> FairQueue<T> {
    /// An empty queue with `capacity` places.
    pub fn new(capacity: usize) -> Self {
        Self {
            addresses: Vec::new(),
            now: 0,
            capacity,
        }
    }

    /// Number of waiting jobs, without reserved places.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Reserves a place until [`push`](Self::push) or [`release`](Self::release).
    ///
    /// An address may hold no more places than are free, and a client no more than its
    /// address may still take. So there is always room for others: of 192 places, a single
    /// client gets 64, one address 96, and the next address 48.
    ///
    /// # Errors
    /// The owner's share is used up; see [`Full`].
    pub fn reserve(&mut self, owner: &Owner) -> Result<(), Full> {
        let taken: usize = self.addresses.iter().map(Address::places).sum();
        let free = self.capacity.saturating_sub(taken);
        let at = self.addresses.iter().find(|at| at.address == owner.party);
        let address = at.map_or(0, Address::places);
        let lane = at.and_then(|at| at.lanes.iter().find(|lane| lane.name == owner.id));
        let client = lane.map_or(0, Lane::places);
        if client >= free.saturating_sub(address) {
            return Err(Full {
                owner: client,
                address,
                free,
                capacity: self.capacity,
            });
        }
        self.lane(owner).reserved += 1;
        Ok(())
    }

    /// Gives a reserved place back.
    pub fn release(&mut self, owner: &Owner) {
        let lane = self.lane(owner);
        lane.reserved = lane.reserved.saturating_sub(1);
        self.forget();
    }

    /// Queues a job at a [reserved](Self::reserve) place.
    pub fn push(&mut self, owner: &Owner, job: T) {
        let lane = self.lane(owner);
        lane.reserved = lane.reserved.saturating_sub(1);
        lane.jobs.push_back(job);
    }

    /// The owner's lane. A lane or address without jobs continues at the current virtual time
    /// or at its own tag, whichever is later.
    fn lane(&mut self, owner: &Owner) -> &mut Lane<T> {
        let known = self
            .addresses
            .iter()
            .position(|at| at.address == owner.party);
        let at = known.unwrap_or_else(|| {
            self.addresses.push(Address {
                address: owner.party.clone(),
                tag: self.now,
                now: 0,
                lanes: Vec::new(),
            });
            self.addresses.len() - 1
        });
        let at = &mut self.addresses[at];
        if at.lanes.iter().all(|lane| lane.jobs.is_empty()) {
            at.tag = at.tag.max(self.now);
        }
        let known = at.lanes.iter().position(|lane| lane.name == owner.id);
        let lane = known.unwrap_or_else(|| {
            at.lanes.push(Lane {
                name: owner.id,
                tag: at.now,
                reserved: 0,
                jobs: VecDeque::new(),
            });
            at.lanes.len() - 1
        });
        let lane = &mut at.lanes[lane];
        if lane.jobs.is_empty() {
            lane.tag = lane.tag.max(at.now);
        }
        lane
    }

    /// Takes the next job that `fits`. Only the first job of each client is considered, so a
    /// client's jobs keep their order.
    pub fn pop_if(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let fits = |lane: &Lane<T>| lane.jobs.front().is_some_and(&fits);
        let at = self
            .addresses
            .iter_mut()
            .filter(|at| at.lanes.iter().any(fits))
            .min_by_key(|at| at.tag)?;
        let lane = at
            .lanes
            .iter_mut()
            .filter(|lane| fits(lane))
            .min_by_key(|lane| lane.tag)?;
        let job = lane.jobs.pop_front();
        at.now = at.now.max(lane.tag);
        lane.tag += 1;
        self.now = self.now.max(at.tag);
        at.tag += 1;
        self.forget();
        job
    }

    /// Removes every job that `matches`, wherever it stands.
    pub fn remove(&mut self, matches: impl Fn(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        for lane in self.addresses.iter_mut().flat_map(|at| &mut at.lanes) {
            for job in std::mem::take(&mut lane.jobs) {
                if matches(&job) {
                    removed.push(job);
                } else {
                    lane.jobs.push_back(job);
                }
            }
        }
        self.forget();
        removed
    }

    /// Forgets owners that hold no place and would start at the current virtual time anyway,
    /// so that past names and addresses take no memory.
    fn forget(&mut self) {
        let now = self.now;
        self.addresses.retain_mut(|at| {
            let present = at.now;
            at.lanes
                .retain(|lane| lane.places() > 0 || lane.tag > present);
            at.places() > 0 || at.tag > now
        });
    }

    /// Every job, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let lanes = self.addresses.iter().flat_map(|at| &at.lanes);
        lanes.flat_map(|lane| &lane.jobs)
    }

    /// Every job, in the order in which they will run if no more arrive.
    pub fn in_order(&mut self) -> Vec<&mut T> {
        let mut order = Vec::new();
        for at in &mut self.addresses {
            let lanes = at.lanes.iter_mut();
            let mut jobs: Vec<_> = lanes
                .flat_map(|lane| (lane.tag..).zip(&mut lane.jobs))
                .collect();
            // Both sorts are stable, so ties are broken as in `pop_if`.
            jobs.sort_by_key(|(tag, _)| *tag);
            let turns = at.tag..;
            order.extend(turns.zip(jobs).map(|(turn, (_, job))| (turn, job)));
        }
        order.sort_by_key(|(turn, _)| *turn);
        order.into_iter().map(|(_, job)| job).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    type Jobs = FairQueue<&'static str>;

    fn owner(address: u8, name: &str) -> Owner {
        Owner::new(IpAddr::from([10, 0, 0, address]), name)
    }

    fn push(queue: &mut Jobs, owner: &Owner, job: &'static str) -> Result<(), Full> {
        queue.reserve(owner)?;
        queue.push(owner, job);
        Ok(())
    }

    fn order(queue: &mut Jobs) -> Vec<&'static str> {
        queue.in_order().into_iter().map(|job| *job).collect()
    }

    fn drain(queue: &mut Jobs) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop_if(|_| true)).collect()
    }

    #[test]
    fn clients_take_turns() {
        for (a, b) in [(owner(1, ""), owner(2, "")), (owner(1, "a"), owner(1, "b"))] {
            let mut queue = FairQueue::new(99);
            for job in ["a1", "a2", "a3"] {
                push(&mut queue, &a, job).unwrap();
            }
            assert_eq!(queue.pop_if(|_| true), Some("a1"));
            for job in ["b1", "b2"] {
                push(&mut queue, &b, job).unwrap();
            }
            let expected = order(&mut queue);
            assert_eq!(expected, ["b1", "a2", "b2", "a3"]);
            assert_eq!(drain(&mut queue), expected);
        }
    }

    #[test]
    fn addresses_take_turns_however_many_names_one_has() {
        let mut queue = FairQueue::new(99);
        for (name, job) in [("x", "x1"), ("y", "y1"), ("z", "z1"), ("z", "z2")] {
            push(&mut queue, &owner(1, name), job).unwrap();
        }
        push(&mut queue, &owner(2, ""), "b1").unwrap();
        push(&mut queue, &owner(2, ""), "b2").unwrap();
        let expected = ["x1", "b1", "y1", "b2", "z1", "z2"];
        assert_eq!(order(&mut queue), expected);
        assert_eq!(drain(&mut queue), expected);
    }

    /// A client that reconnects for every job, under the same name or not, gets every other
    /// turn.
    #[test]
    fn leaving_and_returning_gains_nothing() {
        for names in [["x"; 4], ["w", "x", "y", "z"]] {
            let mut queue = FairQueue::new(99);
            for job in ["a1", "a2", "a3", "a4"] {
                push(&mut queue, &owner(1, ""), job).unwrap();
            }
            let mut served = vec![queue.pop_if(|_| true).unwrap()];
            for (name, job) in names.iter().zip(["b1", "b2", "b3", "b4"]) {
                push(&mut queue, &owner(2, name), job).unwrap();
                while !served.contains(&job) {
                    served.push(queue.pop_if(|_| true).unwrap());
                }
            }
            assert_eq!(served, ["a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4"]);
        }
    }

    #[test]
    fn a_latecomer_does_not_catch_up() {
        let mut queue = FairQueue::new(999);
        for _ in 0..50 {
            push(&mut queue, &owner(1, ""), "a").unwrap();
            push(&mut queue, &owner(2, ""), "b").unwrap();
        }
        for _ in 0..60 {
            queue.pop_if(|_| true);
        }
        for _ in 0..20 {
            push(&mut queue, &owner(3, ""), "c").unwrap();
        }
        let next: Vec<_> = drain(&mut queue).into_iter().take(12).collect();
        let count = |name| next.iter().filter(|job| **job == name).count();
        assert_eq!((count("a"), count("b"), count("c")), (4, 4, 4), "{next:?}");
    }

    #[test]
    fn nobody_takes_the_last_places() {
        let take = |queue: &mut Jobs, owner: Owner| {
            (0..).take_while(|_| queue.reserve(&owner).is_ok()).count()
        };
        let mut queue = FairQueue::new(192);
        assert_eq!(take(&mut queue, owner(1, "a")), 64);
        let full = queue.reserve(&owner(1, "a")).unwrap_err();
        assert_eq!((full.owner, full.address, full.free), (64, 64, 128));
        // All other clients at that address, under ever new names.
        let rest: usize = (0..99)
            .map(|i| take(&mut queue, owner(1, &i.to_string())))
            .sum();
        assert_eq!(rest, 32);
        // Other addresses.
        let others: Vec<_> = (2..9).map(|i| take(&mut queue, owner(i, "a"))).collect();
        assert!(others.iter().all(|&places| places > 0), "{others:?}");
        assert_eq!(others[0], 32);
    }

    #[test]
    fn full_means_full() {
        let mut queue = FairQueue::new(1);
        push(&mut queue, &owner(1, ""), "a").unwrap();
        assert!(push(&mut queue, &owner(2, ""), "b").is_err());
        queue.pop_if(|_| true);
        queue.reserve(&owner(2, "")).unwrap();
        assert!(queue.reserve(&owner(3, "")).is_err());
        queue.release(&owner(2, ""));
        push(&mut queue, &owner(3, ""), "c").unwrap();
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_short_job_does_not_overtake_its_own_client() {
        let mut queue = FairQueue::new(99);
        push(&mut queue, &owner(1, ""), "long").unwrap();
        push(&mut queue, &owner(1, ""), "short").unwrap();
        assert_eq!(queue.pop_if(|job| *job == "short"), None);
        push(&mut queue, &owner(2, ""), "short").unwrap();
        assert_eq!(queue.pop_if(|job| *job == "short"), Some("short"));
    }

    #[test]
    fn removal_keeps_the_rest_in_order_and_memory_is_freed() {
        let mut queue = FairQueue::new(99);
        for job in ["a1", "a2", "a3"] {
            push(&mut queue, &owner(1, ""), job).unwrap();
        }
        push(&mut queue, &owner(2, ""), "b1").unwrap();
        assert_eq!(queue.remove(|job| *job == "a2"), ["a2"]);
        assert_eq!(order(&mut queue), ["a1", "b1", "a3"]);
        for i in 0..=255 {
            for name in ["x", "y", "z"] {
                push(&mut queue, &owner(i, name), "c").unwrap();
                queue.remove(|job| *job == "c");
            }
        }
        assert_eq!(queue.addresses.len(), 2);
        assert_eq!(queue.remove(|job| job.starts_with('a')), ["a1", "a3"]);
        assert_eq!(drain(&mut queue), ["b1"]);
    }
}
