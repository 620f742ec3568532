//! One owner's jobs: their events and results, in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ovis_protocol::limits::MAX_TENSOR_BYTES;
use ovis_protocol::{ErrorCode, Outcome, WireError};
use uuid::Uuid;

use super::event::Event;
use super::event_log::EventLog;
use super::id::{ClientId, JobKey, OwnerNumber};
use super::open::OpenJobs;
use super::owner::{Owner, OwnerId};
use super::quota::{Account, Evict, Quota, Share};
use super::store::{Delivered, Found, NewJob, Swept, Wake};
use crate::pipeline::Output;

/// Most unread previews of one owner; a newer one replaces the oldest.
pub(super) const MAX_PREVIEWS: usize = 4;

/// One owner's event logs.
pub(super) struct Mailbox {
    owner: OwnerNumber,
    id: OwnerId,
    /// Whether the jobs outlive the owner's connections.
    pub is_lasting: bool,
    /// The owner's unfinished jobs.
    pub open: Arc<OpenJobs>,
    quota: Arc<Quota>,
    /// Most bytes of results.
    most: u64,
    this: Weak<Self>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Replaced after an eviction, which closes it.
    account: Arc<Account>,
    /// By job number, so the earliest job comes first.
    logs: BTreeMap<u64, EventLog>,
    readers: Vec<Reader>,
    /// Since when the owner has no connection.
    away_since: Option<Instant>,
}

/// A connection of the owner.
struct Reader {
    client: ClientId,
    wake: Arc<Wake>,
    /// Whether no more events are taken for it.
    is_closed: bool,
}

impl Mailbox {
    /// An empty mailbox whose results and previews count towards `quota`, and whose results
    /// take at most `most` bytes. Its owner is away.
    pub fn new(number: OwnerNumber, owner: &Owner, quota: &Arc<Quota>, most: u64) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            owner: number,
            id: owner.id,
            is_lasting: owner.is_lasting,
            open: Arc::default(),
            quota: quota.clone(),
            most,
            this: this.clone(),
            inner: Mutex::new(Inner {
                account: Arc::new(quota.open(this.clone())),
                logs: BTreeMap::new(),
                readers: Vec::new(),
                away_since: Some(Instant::now()),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self) -> Arc<Account> {
        self.lock().account.clone()
    }

    /// Adds a connection of the owner.
    pub fn attach(&self, client: ClientId, wake: Arc<Wake>) {
        let mut inner = self.lock();
        inner.readers.push(Reader {
            client,
            wake,
            is_closed: false,
        });
        inner.away_since = None;
        inner.account.set_away(false);
    }

    /// Removes a connection of the owner. Its jobs go on without a reader, or are forgotten if
    /// they do not outlive it.
    pub fn detach(&self, client: ClientId) {
        // Dropped after the lock, as results may be large.
        let _dropped = {
            let mut inner = self.lock();
            inner.readers.retain(|reader| reader.client != client);
            for log in inner.logs.values_mut() {
                if log.reader == Some(client) {
                    log.leave();
                }
            }
            if !inner.readers.is_empty() {
                return;
            }
            inner.away_since = Some(Instant::now());
            inner.account.set_away(true);
            match self.is_lasting {
                true => BTreeMap::new(),
                false => std::mem::take(&mut inner.logs),
            }
        };
    }

    /// Whether nothing refers to the owner any more.
    pub fn is_unused(&self) -> bool {
        let inner = self.lock();
        inner.readers.is_empty() && inner.logs.is_empty()
    }

    /// Begins a job's log, in place of an ended one with the same UUID.
    pub fn put(&self, number: u64, new: NewJob) {
        let mut inner = self.lock();
        let id = new.id;
        let replaced = inner.take_logs(|log| log.id == id && log.ended_at().is_some());
        inner.logs.insert(number, EventLog::new(new));
        drop(inner);
        drop(replaced);
    }

    /// Adds an event to a job's log.
    pub fn append(&self, number: u64, event: Event) {
        match event {
            Event::Done(outcome, output) => self.append_result(number, outcome, output),
            Event::Preview(..) | Event::State(..) => {
                // A client can do without it, so nobody is evicted for it.
                let share = self.account().take_if_free(event.extra_bytes());
                if share.is_some() {
                    self.insert(number, event, share);
                }
            }
            event => self.insert(number, event, None),
        }
    }

    fn insert(&self, number: u64, event: Event, share: Option<Share>) {
        // Dropped after the lock, as a replaced event may be large.
        let _replaced = {
            let mut inner = self.lock();
            inner.insert(number, event, share)
        };
    }

    fn append_result(&self, number: u64, outcome: Outcome, output: Output) {
        let (accepts, kept, account) = {
            let inner = self.lock();
            let accepts = inner.accepts(number);
            (accepts, inner.result_bytes(), inner.account.clone())
        };
        if !accepts {
            return;
        }
        let bytes = output.byte_len();
        let refuse = |code, message: String, hint: &str| {
            let error = WireError::new(code, message, hint);
            self.insert(number, Event::Failed(error), None);
        };
        if output.is_empty() || bytes > MAX_TENSOR_BYTES {
            let message = format!("The result of {bytes} bytes cannot be sent.");
            let hint = "Use a smaller batch or size.";
            return refuse(ErrorCode::Internal, message, hint);
        }
        // Not under the lock: another owner's mailbox may be evicted for it. Only the device
        // adds results, one at a time, so `kept` does not grow meanwhile.
        let share = match kept + bytes > self.most {
            true => None,
            false => account.take(bytes),
        };
        match share {
            Some(share) => self.insert(number, Event::Done(outcome, output), Some(share)),
            None => refuse(
                ErrorCode::QueueFull,
                format!(
                    "There is no room to keep a result of {bytes} bytes until it is read; {kept} \
                     bytes wait for this client already."
                ),
                "Read and acknowledge results while submitting jobs, or try again.",
            ),
        }
    }

    /// Takes a client's earliest unread event, if its stamp is below `before`.
    pub fn next(&self, client: ClientId, before: Option<u64>) -> Option<Delivered> {
        let mut inner = self.lock();
        let logs = inner.logs.iter();
        let own = logs.filter(|(_, log)| log.reader == Some(client));
        let fronts = own.filter_map(|(&number, log)| Some((log.first_stamp()?, number)));
        let (stamp, number) = fronts.min()?;
        if before.is_some_and(|before| stamp > before) {
            return None;
        }
        let log = inner.logs.get_mut(&number)?;
        Some(Delivered {
            job: self.key(number),
            id: log.id,
            event: log.pop()?,
            skip: log.skip,
        })
    }

    fn key(&self, number: u64) -> JobKey {
        JobKey {
            owner: self.owner,
            number,
        }
    }

    /// Reads a range of the values of a job's result, for its reader.
    pub fn read(&self, client: ClientId, number: u64, values: Range<usize>) -> Option<Vec<u8>> {
        let output = {
            let inner = self.lock();
            let log = inner.logs.get(&number)?;
            (log.reader == Some(client)).then(|| log.result().cloned())??
        };
        (values.end <= output.len()).then(|| output.bytes(values))
    }

    /// The latest job with this UUID.
    pub fn find(&self, client: ClientId, id: Uuid) -> Option<Found> {
        let inner = self.lock();
        let (&number, log) = inner.logs.iter().rev().find(|(_, log)| log.id == id)?;
        Some(Found {
            job: self.key(number),
            content: log.content,
            is_read_here: log.reader == Some(client),
            values: log.result().map(Output::len),
        })
    }

    /// Makes a client the reader of a job, and tells it the job's present state again.
    pub fn claim(&self, client: ClientId, number: u64, skip: usize) {
        let mut inner = self.lock();
        let reader = inner.readers.iter().find(|reader| reader.client == client);
        let Some(wake) = reader.map(|reader| reader.wake.clone()) else {
            return;
        };
        if let Some(log) = inner.logs.get_mut(&number) {
            log.claim(client, skip, || wake.stamp());
        }
        drop(inner);
        wake.notify();
    }

    /// Forgets a job that has ended.
    pub fn acknowledge(&self, id: Uuid) -> Option<OwnerId> {
        let mut inner = self.lock();
        let is_it = |log: &EventLog| log.id == id && log.ended_at().is_some();
        let number = *inner.logs.iter().find(|(_, log)| is_it(log))?.0;
        let log = inner.logs.remove(&number);
        drop(inner);
        drop(log);
        Some(self.id)
    }

    /// Takes no more events for a client.
    pub fn close(&self, client: ClientId) {
        let mut inner = self.lock();
        for reader in &mut inner.readers {
            reader.is_closed |= reader.client == client;
        }
    }

    /// Notes that the owner has read something just now.
    pub fn note_read(&self) {
        self.account().note_read();
    }

    /// See [`JobStore::sweep`](super::JobStore::sweep).
    pub fn sweep(&self, now: Instant, keep: Duration, swept: &mut Swept) {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= keep;
        let mut inner = self.lock();
        let is_abandoned = inner.away_since.is_some_and(is_over);
        let old = inner.take_logs(|log| log.ended_at().is_some_and(is_over));
        let forgotten = old.values().map(|log| (self.id, log.id));
        swept.forgotten.extend(forgotten);
        if is_abandoned {
            let unfinished = inner
                .logs
                .iter()
                .filter(|(_, log)| log.ended_at().is_none());
            let keys = unfinished.map(|(number, _)| self.key(*number));
            swept.abandoned.extend(keys);
        }
        drop(inner);
        drop(old);
    }

    /// Number of ended jobs, and whether the owner is away although it has jobs.
    pub fn counts(&self) -> (usize, bool) {
        let inner = self.lock();
        let ended = inner.logs.values().filter(|log| log.ended_at().is_some());
        let is_away = inner.readers.is_empty() && !inner.logs.is_empty();
        (ended.count(), is_away)
    }
}

impl Evict for Mailbox {
    /// Drops the results and ends the connections. A lasting owner learns of its dropped
    /// results when it returns.
    fn evict(&self) {
        let fresh = Arc::new(self.quota.open(self.this.clone()));
        let mut inner = self.lock();
        fresh.set_away(inner.readers.is_empty());
        let _old = std::mem::replace(&mut inner.account, fresh);
        let _dropped = match self.is_lasting {
            true => {
                inner.logs.values_mut().for_each(EventLog::expire);
                BTreeMap::new()
            }
            false => std::mem::take(&mut inner.logs),
        };
        for reader in &mut inner.readers {
            reader.is_closed = true;
            reader.wake.evict();
        }
        drop(inner);
    }
}

impl Inner {
    /// Whether events of this job are still taken.
    fn accepts(&self, number: u64) -> bool {
        let log = self.logs.get(&number);
        log.is_some_and(|log| log.ended_at().is_none())
    }

    /// Takes out the logs that match.
    fn take_logs(&mut self, matches: impl Fn(&EventLog) -> bool) -> BTreeMap<u64, EventLog> {
        let all = std::mem::take(&mut self.logs).into_iter();
        let (taken, kept) = all.partition(|(_, log)| matches(log));
        self.logs = kept;
        taken
    }

    /// Bytes of all results.
    fn result_bytes(&self) -> u64 {
        let results = self.logs.values().filter_map(EventLog::result);
        results.map(Output::byte_len).sum()
    }

    /// Adds an event, if the job has not ended. Gives back what it replaces.
    fn insert(&mut self, number: u64, event: Event, share: Option<Share>) -> [Option<Event>; 2] {
        if !self.accepts(number) {
            return [None, Some(event)];
        }
        let surplus = match event {
            Event::Preview(..) => self.oldest_surplus_preview(number),
            _ => None,
        };
        let Some(log) = self.logs.get_mut(&number) else {
            return [surplus, Some(event)];
        };
        let share = log.note(&event, share);
        let reader = self
            .readers
            .iter()
            .find(|reader| log.reader == Some(reader.client) && !reader.is_closed);
        let Some(reader) = reader else {
            return [surplus, Some(event)];
        };
        let replaced = log.push(event, share, || reader.wake.stamp());
        reader.wake.notify();
        [surplus, replaced]
    }

    /// Takes out the oldest preview where a job's preview would be one too many.
    fn oldest_surplus_preview(&mut self, number: u64) -> Option<Event> {
        if self.logs.get(&number)?.preview().is_some() {
            return None;
        }
        let previews = self.logs.iter().filter_map(|(&number, log)| {
            let (stamp, at) = log.preview()?;
            Some((stamp, number, at))
        });
        let previews: Vec<_> = previews.collect();
        if previews.len() < MAX_PREVIEWS {
            return None;
        }
        let (_, number, at) = previews.into_iter().min()?;
        self.logs.get_mut(&number)?.remove(at)
    }
}
