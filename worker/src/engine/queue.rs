//! A bounded queue that is fair between clients and first-in-first-out within
//! each: the client that was served longest ago is next.

use std::collections::VecDeque;

/// Which client an entry belongs to; a number the engine gave out.
pub type ClientId = u64;

struct Lane<T> {
    client: ClientId,
    /// When the client was last served, counted in services; 0 for never.
    served: u64,
    jobs: VecDeque<T>,
}

/// The queue. `T` is the job.
pub struct FairQueue<T> {
    lanes: Vec<Lane<T>>,
    services: u64,
    capacity: usize,
}

impl<T> FairQueue<T> {
    /// An empty queue that holds at most `capacity` jobs.
    pub fn new(capacity: usize) -> Self {
        Self {
            lanes: Vec::new(),
            services: 0,
            capacity,
        }
    }

    /// Jobs waiting.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.jobs.len()).sum()
    }

    /// Whether another job fits.
    pub fn has_room(&self) -> bool {
        self.len() < self.capacity
    }

    /// Appends a job to its client's lane, or gives it back when full.
    pub fn push(&mut self, client: ClientId, job: T) -> Result<(), T> {
        if !self.has_room() {
            return Err(job);
        }
        match self.lanes.iter_mut().find(|lane| lane.client == client) {
            Some(lane) => lane.jobs.push_back(job),
            None => self.lanes.push(Lane {
                client,
                served: 0,
                jobs: VecDeque::from([job]),
            }),
        }
        Ok(())
    }

    /// Takes the next job of those whose turn it is and that `fits`. Only the
    /// first job of a client is looked at, so that its order holds.
    pub fn pop_if(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let lane = self
            .lanes
            .iter_mut()
            .filter(|lane| lane.jobs.front().is_some_and(&fits))
            .min_by_key(|lane| lane.served)?;
        self.services += 1;
        lane.served = self.services;
        lane.jobs.pop_front()
    }

    /// Takes out every job that `matches`, wherever it stands.
    pub fn remove(&mut self, matches: impl Fn(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        for lane in &mut self.lanes {
            for job in std::mem::take(&mut lane.jobs) {
                if matches(&job) {
                    removed.push(job);
                } else {
                    lane.jobs.push_back(job);
                }
            }
        }
        removed
    }

    /// Forgets a client and gives back its jobs.
    pub fn remove_client(&mut self, client: ClientId) -> Vec<T> {
        match self.lanes.iter().position(|lane| lane.client == client) {
            Some(at) => self.lanes.remove(at).jobs.into(),
            None => Vec::new(),
        }
    }

    /// Every job in the order in which they will run if nothing changes.
    pub fn in_order(&mut self) -> Vec<&mut T> {
        let mut lanes: Vec<&mut Lane<T>> = self.lanes.iter_mut().collect();
        // Stable, so that ties are broken as `pop_if` breaks them.
        lanes.sort_by_key(|lane| lane.served);
        let mut rounds: Vec<_> = lanes.into_iter().map(|lane| lane.jobs.iter_mut()).collect();
        let mut order = Vec::new();
        loop {
            let before = order.len();
            order.extend(rounds.iter_mut().filter_map(Iterator::next));
            if order.len() == before {
                return order;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(queue: &mut FairQueue<&'static str>) -> Vec<&'static str> {
        queue.in_order().into_iter().map(|job| *job).collect()
    }

    #[test]
    fn clients_take_turns() {
        let mut queue = FairQueue::new(9);
        for job in ["a1", "a2", "a3"] {
            queue.push(1, job).unwrap();
        }
        assert_eq!(queue.pop_if(|_| true), Some("a1"));
        for job in ["b1", "b2"] {
            queue.push(2, job).unwrap();
        }
        let expected = order(&mut queue);
        assert_eq!(expected, ["b1", "a2", "b2", "a3"]);
        let popped: Vec<_> = std::iter::from_fn(|| queue.pop_if(|_| true)).collect();
        assert_eq!(popped, expected);
    }

    #[test]
    fn full_means_full() {
        let mut queue = FairQueue::new(1);
        queue.push(1, "a").unwrap();
        assert_eq!(queue.push(2, "b"), Err("b"));
        queue.pop_if(|_| true);
        queue.push(2, "b").unwrap();
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_short_job_does_not_overtake_its_own_client() {
        let mut queue = FairQueue::new(9);
        queue.push(1, "long").unwrap();
        queue.push(1, "short").unwrap();
        assert_eq!(queue.pop_if(|job| *job == "short"), None);
        queue.push(2, "short").unwrap();
        assert_eq!(queue.pop_if(|job| *job == "short"), Some("short"));
    }

    #[test]
    fn removal_keeps_the_rest_in_order() {
        let mut queue = FairQueue::new(9);
        for job in ["a1", "a2", "a3"] {
            queue.push(1, job).unwrap();
        }
        queue.push(2, "b1").unwrap();
        assert_eq!(queue.remove(|job| *job == "a2"), ["a2"]);
        assert_eq!(order(&mut queue), ["a1", "b1", "a3"]);
        assert_eq!(queue.remove_client(1), ["a1", "a3"]);
        assert_eq!(order(&mut queue), ["b1"]);
        assert!(queue.remove_client(1).is_empty());
    }
}
