//! One client's unread events and results, in memory.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ovis_protocol::limits::MAX_TENSOR_BYTES;
use ovis_protocol::{ErrorCode, Outcome, WireError};
use uuid::Uuid;

use super::event::Event;
use super::id::JobKey;
use super::open::OpenJob;
use super::quota::{Account, Evict, Quota, Share};
use super::store::{Delivered, Wake};
use crate::pipeline::Output;

/// Most unread previews of one client; a newer one replaces the oldest.
pub(super) const MAX_PREVIEWS: usize = 4;

/// One client's event logs.
pub(super) struct Mailbox {
    account: Account,
    /// Most bytes of unread results.
    most: u64,
    wake: Arc<Wake>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// By job number, so the earliest job comes first.
    logs: BTreeMap<u64, EventLog>,
    /// Whether no more events are taken.
    is_closed: bool,
}

/// What is unread of one job. It holds at most one event of each kind.
struct EventLog {
    id: Uuid,
    /// In the order of their stamps.
    events: VecDeque<Entry>,
    result: Option<StoredResult>,
    has_ended: bool,
    /// The job counts as unfinished until its log is dropped.
    _open: OpenJob,
}

struct Entry {
    stamp: u64,
    event: Event,
    /// A preview's bytes in the quota.
    _share: Option<Share>,
}

struct StoredResult {
    output: Output,
    _share: Share,
}

impl EventLog {
    /// Whether everything was read and nothing more will come.
    fn is_over(&self) -> bool {
        self.has_ended && self.events.is_empty() && self.result.is_none()
    }
}

impl Mailbox {
    /// An empty mailbox whose results and previews count towards `quota`, and whose unread
    /// results take at most `most` bytes.
    pub fn new(quota: &Arc<Quota>, most: u64, wake: Arc<Wake>) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            account: quota.open(this.clone()),
            most,
            wake,
            inner: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a job's log.
    pub fn put(&self, number: u64, id: Uuid, open: OpenJob) {
        let log = EventLog {
            id,
            events: VecDeque::new(),
            result: None,
            has_ended: false,
            _open: open,
        };
        let mut inner = self.lock();
        if !inner.is_closed {
            inner.logs.insert(number, log);
        }
    }

    /// Adds an event to a job's log.
    pub fn append(&self, number: u64, event: Event) {
        match event {
            Event::Done(outcome, output) => self.append_result(number, outcome, output),
            Event::Preview(_, ref preview) => {
                // A client can do without a preview, so nobody is evicted for one.
                let share = self.account.take_if_free(preview.rgb.len() as u64);
                if share.is_some() {
                    self.insert(number, event, share, None);
                }
            }
            event => self.insert(number, event, None, None),
        }
    }

    fn insert(
        &self,
        number: u64,
        event: Event,
        share: Option<Share>,
        result: Option<StoredResult>,
    ) {
        // Dropped after the lock, as a replaced preview may be large.
        let replaced = {
            let mut inner = self.lock();
            if !inner.accepts(number) {
                return;
            }
            let stamp = || self.wake.stamp();
            inner.insert(number, stamp, event, share, result)
        };
        self.wake.notify();
        drop(replaced);
    }

    fn append_result(&self, number: u64, outcome: Outcome, output: Output) {
        let (accepts, unread) = {
            let inner = self.lock();
            (inner.accepts(number), inner.result_bytes())
        };
        if !accepts {
            return;
        }
        let bytes = output.byte_len();
        let refuse = |code, message: String, hint: &str| {
            let error = WireError::new(code, message, hint);
            self.insert(number, Event::Failed(error), None, None);
        };
        if output.is_empty() || bytes > MAX_TENSOR_BYTES {
            let message = format!("The result of {bytes} bytes cannot be sent.");
            let hint = "Use a smaller batch or size.";
            return refuse(ErrorCode::Internal, message, hint);
        }
        // Not under the lock: another client's mailbox may be evicted for it. Only the device
        // adds results, one at a time, so `unread` does not grow meanwhile.
        let share = match unread + bytes > self.most {
            true => None,
            false => self.account.take(bytes),
        };
        match share {
            Some(share) => {
                let result = StoredResult {
                    output: output.clone(),
                    _share: share,
                };
                self.insert(number, Event::Done(outcome, output), None, Some(result));
            }
            None => refuse(
                ErrorCode::QueueFull,
                format!(
                    "There is no room to keep a result of {bytes} bytes until it is read; {unread} \
                     bytes wait for this client already."
                ),
                "Read results while submitting jobs, or try again.",
            ),
        }
    }

    /// Takes the earliest unread event, if its stamp is below `before`.
    pub fn next(&self, client: u64, before: Option<u64>) -> Option<Delivered> {
        let mut inner = self.lock();
        let fronts = inner.logs.iter().filter_map(|(&number, log)| {
            let stamp = log.events.front()?.stamp;
            Some((stamp, number))
        });
        let (stamp, number) = fronts.min()?;
        if before.is_some_and(|before| stamp > before) {
            return None;
        }
        let log = inner.logs.get_mut(&number)?;
        let entry = log.events.pop_front()?;
        let delivered = Delivered {
            job: JobKey { client, number },
            id: log.id,
            event: entry.event,
        };
        if log.is_over() {
            inner.logs.remove(&number);
        }
        Some(delivered)
    }

    /// Reads a range of the values of a job's result; the last value frees it.
    pub fn read(&self, number: u64, values: Range<usize>) -> Option<Vec<u8>> {
        let output = self
            .lock()
            .logs
            .get(&number)?
            .result
            .as_ref()?
            .output
            .clone();
        if values.end >= output.len() {
            let mut inner = self.lock();
            if let Some(log) = inner.logs.get_mut(&number) {
                log.result = None;
                if log.is_over() {
                    inner.logs.remove(&number);
                }
            }
        }
        Some(output.bytes(values))
    }

    /// Frees unread results, but not unread events.
    pub fn discard_results(&self) {
        let mut inner = self.lock();
        let results: Vec<_> = inner
            .logs
            .values_mut()
            .filter_map(|log| log.result.take())
            .collect();
        inner.logs.retain(|_, log| !log.is_over());
        drop(inner);
        drop(results);
    }

    /// Takes no more events.
    pub fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Takes no more events and frees those that were not read.
    pub fn clear(&self) {
        let logs = {
            let mut inner = self.lock();
            inner.is_closed = true;
            std::mem::take(&mut inner.logs)
        };
        drop(logs);
    }

    /// Notes that the client has read something just now.
    pub fn note_read(&self) {
        self.account.note_read();
    }
}

impl Evict for Mailbox {
    fn evict(&self) {
        self.clear();
        self.wake.evict();
    }
}

impl Inner {
    /// Whether events of this job are still taken.
    fn accepts(&self, number: u64) -> bool {
        let log = self.logs.get(&number);
        !self.is_closed && log.is_some_and(|log| !log.has_ended)
    }

    /// Bytes of results that were not read to their end.
    fn result_bytes(&self) -> u64 {
        let results = self.logs.values().filter_map(|log| log.result.as_ref());
        results.map(|result| result.output.byte_len()).sum()
    }

    /// Adds an event of a job that is [accepted](Self::accepts). Gives back what it replaces.
    fn insert(
        &mut self,
        number: u64,
        stamp: impl FnOnce() -> u64,
        event: Event,
        share: Option<Share>,
        result: Option<StoredResult>,
    ) -> Option<Entry> {
        let log = self.logs.get_mut(&number)?;
        let replaced = log
            .events
            .iter_mut()
            .find(|old| event.supersedes(&old.event));
        if let Some(old) = replaced {
            let new = Entry {
                stamp: old.stamp,
                event,
                _share: share,
            };
            return Some(std::mem::replace(old, new));
        }
        let replaced = match event {
            Event::Preview(..) => self.oldest_surplus_preview(),
            _ => None,
        };
        let log = self.logs.get_mut(&number)?;
        log.has_ended = event.is_end();
        log.result = result;
        log.events.push_back(Entry {
            stamp: stamp(),
            event,
            _share: share,
        });
        replaced
    }

    /// Takes out the oldest preview where there are as many as there may be.
    fn oldest_surplus_preview(&mut self) -> Option<Entry> {
        let is_preview = |entry: &Entry| matches!(entry.event, Event::Preview(..));
        let previews = self.logs.iter().flat_map(|(&number, log)| {
            let entries = log.events.iter().enumerate();
            entries.filter_map(move |(at, entry)| {
                is_preview(entry).then_some((entry.stamp, number, at))
            })
        });
        let previews: Vec<_> = previews.collect();
        if previews.len() < MAX_PREVIEWS {
            return None;
        }
        let (_, number, at) = previews.into_iter().min()?;
        self.logs.get_mut(&number)?.events.remove(at)
    }
}
