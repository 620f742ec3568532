//! One bound on what waits to be read by all clients together.
//!
//! A result lies in memory until its client has read it, and so does a preview. Where there is
//! no room for another, a client that has stopped reading is dropped, the one that read least
//! recently first; else the client that makes others keep the most, if that is more than the
//! newcomer's own. Otherwise the newcomer's own is not kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a client that has something to read may take none of it while others need the
/// room.
const STALLED: Duration = Duration::from_secs(5);

/// Lets go of what waits for a client that is dropped.
pub trait Reader: Send + Sync {
    /// Frees everything and ends the connection. Called without the budget's lock.
    fn cut(&self);
}

struct Holder {
    number: u64,
    bytes: u64,
    /// When it last read, or began to have something to read.
    read: Instant,
    reader: Weak<dyn Reader>,
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

    /// Who is dropped so that `number` may have `bytes` more.
    fn victim(&self, number: u64, bytes: u64, now: Instant) -> Option<usize> {
        let others = || {
            let all = self.holders.iter().enumerate();
            all.filter(|(_, holder)| holder.number != number && holder.bytes > 0)
        };
        let stalled = others().filter(|(_, holder)| now - holder.read >= STALLED);
        let own = self.holders.iter().find(|holder| holder.number == number);
        let own = own.map_or(0, |holder| holder.bytes) + bytes;
        let larger = others().filter(|(_, holder)| holder.bytes > own);
        stalled
            .min_by_key(|(_, holder)| holder.read)
            .or_else(|| larger.max_by_key(|(_, holder)| holder.bytes))
            .map(|(at, _)| at)
    }
}

/// The bytes that all connections together may keep for their clients.
pub struct Budget {
    most: u64,
    inner: Mutex<Inner>,
}

impl Budget {
    /// A budget of `most` bytes.
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self {
            most,
            inner: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection's account.
    pub fn open(self: &Arc<Self>, reader: Weak<dyn Reader>) -> Account {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.holders.push(Holder {
            number,
            bytes: 0,
            read: Instant::now(),
            reader,
        });
        Account {
            budget: self.clone(),
            number,
        }
    }

    /// Bytes that wait to be read.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }
}

/// One connection's part of the budget.
pub struct Account {
    budget: Arc<Budget>,
    number: u64,
}

impl Account {
    /// Room for `bytes`; others may be dropped for it.
    pub fn take(&self, bytes: u64) -> Option<Share> {
        let mut dropped = Vec::new();
        let share = {
            let mut inner = self.budget.lock();
            let now = Instant::now();
            let own = inner.holder(self.number)?.bytes;
            if own.saturating_add(bytes) > self.budget.most {
                // Not even alone.
                return None;
            }
            loop {
                if let Some(share) = self.take_from(&mut inner, bytes, now) {
                    break Some(share);
                }
                match inner.victim(self.number, bytes, now) {
                    Some(at) => dropped.push(inner.holders.remove(at)),
                    None => break None,
                }
            }
        };
        for holder in dropped {
            if let Some(reader) = holder.reader.upgrade() {
                reader.cut();
            }
        }
        share
    }

    /// Room for `bytes`, if there is some.
    pub fn take_if_free(&self, bytes: u64) -> Option<Share> {
        self.take_from(&mut self.budget.lock(), bytes, Instant::now())
    }

    fn take_from(&self, inner: &mut Inner, bytes: u64, now: Instant) -> Option<Share> {
        if inner.used().saturating_add(bytes) > self.budget.most {
            return None;
        }
        let holder = inner.holder(self.number)?;
        if holder.bytes == 0 {
            holder.read = now;
        }
        holder.bytes += bytes;
        Some(Share {
            budget: self.budget.clone(),
            number: self.number,
            bytes,
        })
    }

    /// Notes that the client has read something.
    pub fn has_read(&self) {
        if let Some(holder) = self.budget.lock().holder(self.number) {
            holder.read = Instant::now();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let number = self.number;
        self.budget.lock().holders.retain(|h| h.number != number);
    }
}

/// Bytes of the budget. They are given back when it is dropped.
pub struct Share {
    budget: Arc<Budget>,
    number: u64,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        // A connection that was dropped has given back everything already.
        if let Some(holder) = self.budget.lock().holder(self.number) {
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

    impl Reader for Client {
        fn cut(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    struct Party {
        client: Arc<Client>,
        account: Account,
    }

    impl Party {
        fn new(budget: &Arc<Budget>) -> Self {
            let client = Arc::new(Client::default());
            let weak: Weak<Client> = Arc::downgrade(&client);
            let account = budget.open(weak);
            Self { client, account }
        }

        fn is_cut(&self) -> bool {
            self.client.0.load(Ordering::Relaxed)
        }

        fn stall(&self) {
            let mut inner = self.account.budget.lock();
            inner.holder(self.account.number).unwrap().read -= STALLED;
        }
    }

    #[test]
    fn the_one_that_does_not_read_is_dropped_first() {
        let budget = Budget::new(100);
        let [stalled, large, new] = [0; 3].map(|_| Party::new(&budget));
        let _a = stalled.account.take(10).unwrap();
        let _b = large.account.take(90).unwrap();
        stalled.stall();
        let _c = new.account.take(10).unwrap();
        assert!(stalled.is_cut() && !large.is_cut());
        assert_eq!(budget.used(), 100);
    }

    #[test]
    fn the_largest_makes_room_and_never_a_smaller_one() {
        let budget = Budget::new(100);
        let [large, small, new] = [0; 3].map(|_| Party::new(&budget));
        let share = large.account.take(60).unwrap();
        let kept = small.account.take(20).unwrap();
        let mine = new.account.take(30).unwrap();
        assert!(large.is_cut() && !small.is_cut());
        // What the dropped one still holds counts no more, and is not given back twice.
        drop(share);
        assert_eq!(budget.used(), 50);
        assert!(large.account.take(1).is_none());
        assert!(new.account.take(60).is_none(), "small has less than that");
        assert!(new.account.take(101).is_none(), "more than there is at all");
        assert!(!small.is_cut());
        drop((kept, mine));
        assert_eq!(budget.used(), 0);
        assert!(new.account.take_if_free(100).is_some());
    }

    #[test]
    fn a_client_that_has_just_got_something_has_not_stalled() {
        let budget = Budget::new(100);
        let [a, b] = [0; 2].map(|_| Party::new(&budget));
        a.stall();
        let _a = a.account.take(50).unwrap();
        assert!(b.account.take(60).is_none());
        assert!(!a.is_cut());
    }
}
