//! One bound on the results, previews and states of all owners together.
//!
//! A result stays in memory until its owner has acknowledged it; a preview or state until it is
//! read. When a new result does not fit, an owner is evicted: first one that is away, the one
//! that left first; then one that has stopped reading, the one that read least recently;
//! otherwise the one that holds the most, if that is more than the newcomer would hold. If
//! nobody qualifies, the new result is refused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long an owner may leave unread data untouched while others need the room.
const STALLED: Duration = Duration::from_secs(5);

/// The holder of an owner's data, which an eviction frees.
pub(super) trait Evict: Send + Sync {
    /// Frees the owner's data and ends its connections. Called without the quota's lock.
    fn evict(&self);
}

struct Holder {
    number: u64,
    bytes: u64,
    /// When it last read something, or last began to have something to read.
    read: Instant,
    /// Since when it has no connection.
    away: Option<Instant>,
    data: Weak<dyn Evict>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    holders: Vec<Holder>,
}

impl Inner {
    fn used(&self) -> u64 {
        self.holders.iter().map(|holder| holder.bytes).sum()
    }

    fn holder(&mut self, number: u64) -> Option<&mut Holder> {
        self.holders.iter_mut().find(|h| h.number == number)
    }

    /// Whom to evict so that `number` may hold `bytes` more.
    fn victim(&self, number: u64, bytes: u64, now: Instant) -> Option<usize> {
        let others = || {
            let all = self.holders.iter().enumerate();
            all.filter(|(_, holder)| holder.number != number && holder.bytes > 0)
        };
        let away = others().filter_map(|(at, holder)| Some((holder.away?, at)));
        let stalled = others().filter(|(_, holder)| now - holder.read >= STALLED);
        let own = self.holders.iter().find(|holder| holder.number == number);
        let own = own.map_or(0, |holder| holder.bytes) + bytes;
        let larger = others().filter(|(_, holder)| holder.bytes > own);
        let least_recent = || stalled.min_by_key(|(_, holder)| holder.read);
        let largest = || larger.max_by_key(|(_, holder)| holder.bytes);
        let of_present = || least_recent().or_else(largest).map(|(at, _)| at);
        away.min().map(|(_, at)| at).or_else(of_present)
    }
}

/// The bytes that all owners together may hold.
pub(super) struct Quota {
    most: u64,
    inner: Mutex<Inner>,
}

impl Quota {
    /// A quota of `most` bytes.
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self {
            most,
            inner: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an owner's account. `data` is told if the owner is evicted.
    pub fn open(self: &Arc<Self>, data: Weak<dyn Evict>) -> Account {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.holders.push(Holder {
            number,
            bytes: 0,
            read: Instant::now(),
            away: None,
            data,
        });
        Account {
            quota: self.clone(),
            number,
        }
    }

    /// Bytes that are held.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Most bytes that may be held.
    pub fn most(&self) -> u64 {
        self.most
    }
}

/// One owner's part of the quota.
pub(super) struct Account {
    quota: Arc<Quota>,
    number: u64,
}

impl Account {
    /// Takes room for `bytes`, evicting others if need be.
    pub fn take(&self, bytes: u64) -> Option<Share> {
        let mut evicted = Vec::new();
        let share = {
            let mut inner = self.quota.lock();
            let now = Instant::now();
            let own = inner.holder(self.number)?.bytes;
            if own.saturating_add(bytes) > self.quota.most {
                // It would not fit even alone.
                return None;
            }
            loop {
                if let Some(share) = self.take_from(&mut inner, bytes, now) {
                    break Some(share);
                }
                match inner.victim(self.number, bytes, now) {
                    Some(at) => evicted.push(inner.holders.remove(at)),
                    None => break None,
                }
            }
        };
        for holder in evicted {
            if let Some(data) = holder.data.upgrade() {
                data.evict();
            }
        }
        share
    }

    /// Takes room for `bytes` if it is free.
    pub fn take_if_free(&self, bytes: u64) -> Option<Share> {
        self.take_from(&mut self.quota.lock(), bytes, Instant::now())
    }

    fn take_from(&self, inner: &mut Inner, bytes: u64, now: Instant) -> Option<Share> {
        if inner.used().saturating_add(bytes) > self.quota.most {
            return None;
        }
        let holder = inner.holder(self.number)?;
        if holder.bytes == 0 {
            holder.read = now;
        }
        holder.bytes += bytes;
        Some(Share {
            quota: self.quota.clone(),
            number: self.number,
            bytes,
        })
    }

    /// Notes whether the owner has no connection. One that is away stays so since the first
    /// time.
    pub fn set_away(&self, is_away: bool) {
        if let Some(holder) = self.quota.lock().holder(self.number) {
            let since = holder.away.unwrap_or_else(Instant::now);
            holder.away = is_away.then_some(since);
        }
    }

    /// Notes that the owner has read something just now.
    pub fn note_read(&self) {
        if let Some(holder) = self.quota.lock().holder(self.number) {
            holder.read = Instant::now();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let number = self.number;
        self.quota.lock().holders.retain(|h| h.number != number);
    }
}

/// Bytes of the quota, given back when dropped.
pub(super) struct Share {
    quota: Arc<Quota>,
    number: u64,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        // An evicted owner's bytes were given back with its eviction.
        if let Some(holder) = self.quota.lock().holder(self.number) {
            holder.bytes -= self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[derive(Default)]
    struct Client(AtomicBool);

    impl Evict for Client {
        fn evict(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    struct Party {
        client: Arc<Client>,
        account: Account,
    }

    impl Party {
        fn new(quota: &Arc<Quota>) -> Self {
            let client = Arc::new(Client::default());
            let weak: Weak<Client> = Arc::downgrade(&client);
            let account = quota.open(weak);
            Self { client, account }
        }

        fn is_evicted(&self) -> bool {
            self.client.0.load(Ordering::Relaxed)
        }

        fn stall(&self) {
            let mut inner = self.account.quota.lock();
            inner.holder(self.account.number).unwrap().read -= STALLED;
        }
    }

    #[test]
    fn a_client_that_does_not_read_is_evicted_first() {
        let quota = Quota::new(100);
        let [stalled, large, new] = [0; 3].map(|_| Party::new(&quota));
        let _a = stalled.account.take(10).unwrap();
        let _b = large.account.take(90).unwrap();
        stalled.stall();
        let _c = new.account.take(10).unwrap();
        assert!(stalled.is_evicted() && !large.is_evicted());
        assert_eq!(quota.used(), 100);
    }

    #[test]
    fn the_largest_makes_room_and_never_a_smaller_one() {
        let quota = Quota::new(100);
        let [large, small, new] = [0; 3].map(|_| Party::new(&quota));
        let share = large.account.take(60).unwrap();
        let kept = small.account.take(20).unwrap();
        let mine = new.account.take(30).unwrap();
        assert!(large.is_evicted() && !small.is_evicted());
        // What the evicted client still holds does not count, and is not given back twice.
        drop(share);
        assert_eq!(quota.used(), 50);
        assert!(large.account.take(1).is_none());
        assert!(new.account.take(60).is_none(), "small has less than that");
        assert!(new.account.take(101).is_none(), "more than there is at all");
        assert!(!small.is_evicted());
        drop((kept, mine));
        assert_eq!(quota.used(), 0);
        assert!(new.account.take_if_free(100).is_some());
    }

    #[test]
    fn a_client_that_has_just_received_something_has_not_stalled() {
        let quota = Quota::new(100);
        let [a, b] = [0; 2].map(|_| Party::new(&quota));
        a.stall();
        let _a = a.account.take(50).unwrap();
        assert!(b.account.take(60).is_none());
        assert!(!a.is_evicted());
    }
}
