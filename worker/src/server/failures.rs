//! Addresses from which wrong tokens come, and which of them are kept out for a while.
//!
//! Guessing a token is hopeless when it is random, but an operator may choose a short one, and
//! every guess costs work. Loopback addresses are counted but never kept out, because programs
//! of this machine and a proxy's clients share them.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::jobs::neighbourhood;

/// How many failures an address may have.
#[derive(Clone, Copy, Debug)]
pub struct FailureLimits {
    /// Failures within the window after which an address is kept out.
    pub failures: usize,
    /// For how long a failure counts.
    pub window: Duration,
    /// Addresses that are remembered. Beyond that, the one whose last failure is the longest
    /// ago is forgotten.
    pub addresses: usize,
}

impl Default for FailureLimits {
    fn default() -> Self {
        Self {
            failures: 10,
            window: Duration::from_secs(60),
            addresses: 1024,
        }
    }
}

/// Counts failures by address.
pub struct Failures {
    limits: FailureLimits,
    /// When the latest failures of an address were, the earliest first; no more than the limit.
    recent: Mutex<HashMap<IpAddr, VecDeque<Instant>>>,
}

impl Failures {
    /// No failures yet.
    pub fn new(limits: FailureLimits) -> Self {
        Self {
            limits,
            recent: Mutex::default(),
        }
    }

    /// Counts and logs a failure of `address`.
    pub fn note(&self, address: IpAddr) {
        let failures = self.count(neighbourhood(address), Instant::now());
        tracing::warn!(
            %address,
            failures,
            "a client was not accepted; its address has this many recent failures"
        );
    }

    fn count(&self, address: IpAddr, now: Instant) -> usize {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if !recent.contains_key(&address) && recent.len() >= self.limits.addresses {
            let counts = |times: &VecDeque<Instant>| {
                let last = times.back();
                last.is_some_and(|last| now.duration_since(*last) < self.limits.window)
            };
            recent.retain(|_, times| counts(times));
            let oldest = recent.iter().min_by_key(|(_, times)| times.back().copied());
            let oldest = oldest.map(|(address, _)| *address);
            if recent.len() >= self.limits.addresses {
                oldest.and_then(|oldest| recent.remove(&oldest));
            }
        }
        let times = recent.entry(address).or_default();
        times.retain(|time| now.duration_since(*time) < self.limits.window);
        times.push_back(now);
        if times.len() > self.limits.failures {
            times.pop_front();
        }
        times.len()
    }

    /// For how long `address` is still kept out; `None` if it is not.
    pub fn keeps_out(&self, address: IpAddr) -> Option<Duration> {
        self.kept_out_at(neighbourhood(address), Instant::now())
    }

    fn kept_out_at(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        if address.is_loopback() {
            return None;
        }
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let times = recent.get(&address)?;
        let first = times
            .front()
            .filter(|_| times.len() >= self.limits.failures)?;
        let over = *first + self.limits.window;
        over.checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn an_address_is_kept_out_until_the_window_has_passed() {
        let failures = Failures::new(FailureLimits::default());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..9 {
            failures.count(address(1), at(second));
            assert_eq!(failures.kept_out_at(address(1), at(second)), None);
        }
        assert_eq!(failures.count(address(1), at(20)), 10);
        let left = |seconds| failures.kept_out_at(address(1), at(seconds));
        assert_eq!(left(20), Some(Duration::from_secs(40)));
        assert_eq!(left(59), Some(Duration::from_secs(1)));
        assert_eq!(left(60), None);
        // Others are not concerned.
        assert_eq!(failures.kept_out_at(address(2), at(20)), None);
        // The other nine still count, so the next failure keeps the address out again.
        failures.count(address(1), at(60));
        assert_eq!(left(60), Some(Duration::from_secs(1)));
        // Slower than ten a minute is never kept out.
        for second in (100..1000).step_by(7) {
            failures.count(address(3), at(second));
            assert_eq!(failures.kept_out_at(address(3), at(second)), None);
        }
    }

    #[test]
    fn programs_of_this_machine_are_counted_and_never_kept_out() {
        let failures = Failures::new(FailureLimits::default());
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let now = Instant::now();
        for _ in 0..20 {
            failures.count(loopback, now);
        }
        assert_eq!(failures.kept_out_at(loopback, now), None);
    }

    #[test]
    fn a_machine_cannot_evade_within_its_network() {
        let failures = Failures::new(FailureLimits::default());
        for host in 0..10_u16 {
            failures.note(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]));
        }
        let other = |network| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, 77]);
        assert!(failures.keeps_out(other(0)).is_some());
        assert!(failures.keeps_out(other(1)).is_none());
    }

    #[test]
    fn the_table_is_bounded() {
        let failures = Failures::new(FailureLimits {
            addresses: 4,
            failures: 2,
            ..FailureLimits::default()
        });
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        failures.count(address(0), at(0));
        failures.count(address(0), at(1));
        for last in 1..=4 {
            failures.count(address(last), at(u64::from(last) + 1));
        }
        assert_eq!(failures.recent.lock().unwrap().len(), 4);
        assert_eq!(failures.kept_out_at(address(0), at(5)), None);
        failures.count(address(9), at(1000));
        assert_eq!(failures.recent.lock().unwrap().len(), 1);
    }
}
