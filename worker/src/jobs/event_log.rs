//! What one job's client has not read, and what another connection must be told when it claims
//! the job.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ovis_protocol::{ErrorCode, WireError};
use uuid::Uuid;

use super::content::Content;
use super::event::Event;
use super::id::ClientId;
use super::open::OpenJob;
use super::quota::Share;
use super::store::NewJob;
use crate::pipeline::{Output, StepReport};

/// One job's events. Of each kind that replaces its predecessor, at most one is unread.
pub(super) struct EventLog {
    pub id: Uuid,
    pub content: Content,
    /// The client that the events go to.
    pub reader: Option<ClientId>,
    /// Number of values of the result that the reader already has.
    pub skip: usize,
    /// In the order of their stamps.
    unread: VecDeque<Entry>,
    latest: Latest,
    end: Option<End>,
    age: Duration,
    /// The job counts as unfinished until its log is dropped.
    _open: OpenJob,
}

struct Entry {
    stamp: u64,
    event: Event,
    /// A preview's or a state's bytes in the quota.
    _share: Option<Share>,
}

/// The events that describe a job which has not ended.
#[derive(Default)]
struct Latest {
    position: Option<u32>,
    is_started: bool,
    progress: Option<(StepReport, f32)>,
}

struct End {
    event: Event,
    at: Instant,
    /// The result's bytes in the quota.
    _share: Option<Share>,
}

impl EventLog {
    pub fn new(new: NewJob) -> Self {
        Self {
            id: new.id,
            content: new.content,
            reader: new.reader,
            skip: 0,
            unread: VecDeque::new(),
            latest: Latest::default(),
            end: None,
            age: new.age,
            _open: new.open,
        }
    }

    /// Whether the job has ended, and when.
    pub fn ended_at(&self) -> Option<Instant> {
        self.end.as_ref().map(|end| end.at)
    }

    /// The job's result, if it is done and its result was not dropped.
    pub fn result(&self) -> Option<&Output> {
        match &self.end.as_ref()?.event {
            Event::Done(_, output) => Some(output),
            _ => None,
        }
    }

    /// Notes what an event says of the job. An event that ends the job keeps `share`; the rest
    /// is given back.
    pub fn note(&mut self, event: &Event, share: Option<Share>) -> Option<Share> {
        match event {
            Event::Queued(position) => self.latest.position = Some(*position),
            Event::Started => self.latest.is_started = true,
            Event::Progress(report, left) => self.latest.progress = Some((*report, *left)),
            Event::Preview(..) | Event::State(..) => {}
            end => {
                self.end = Some(End {
                    event: end.clone(),
                    at: Instant::now()
                        .checked_sub(self.age)
                        .unwrap_or_else(Instant::now),
                    _share: share,
                });
                return None;
            }
        }
        share
    }

    /// Adds an event for the reader. Gives back what it replaces, which may be large.
    pub fn push(
        &mut self,
        event: Event,
        share: Option<Share>,
        stamp: impl FnOnce() -> u64,
    ) -> Option<Event> {
        let old = self
            .unread
            .iter_mut()
            .find(|old| event.supersedes(&old.event));
        match old {
            Some(old) => {
                let new = Entry {
                    stamp: old.stamp,
                    event,
                    _share: share,
                };
                Some(std::mem::replace(old, new).event)
            }
            None => {
                self.unread.push_back(Entry {
                    stamp: stamp(),
                    event,
                    _share: share,
                });
                None
            }
        }
    }

    /// The stamp of the earliest unread event.
    pub fn first_stamp(&self) -> Option<u64> {
        self.unread.front().map(|entry| entry.stamp)
    }

    /// Takes the earliest unread event.
    pub fn pop(&mut self) -> Option<Event> {
        self.unread.pop_front().map(|entry| entry.event)
    }

    /// The stamp and the place of an unread preview.
    pub fn preview(&self) -> Option<(u64, usize)> {
        let is_preview = |entry: &Entry| matches!(entry.event, Event::Preview(..));
        let at = self.unread.iter().position(is_preview)?;
        Some((self.unread[at].stamp, at))
    }

    /// Takes out the unread event at a place.
    pub fn remove(&mut self, at: usize) -> Option<Event> {
        self.unread.remove(at).map(|entry| entry.event)
    }

    /// Leaves the log without a reader.
    pub fn leave(&mut self) {
        self.reader = None;
        self.unread.clear();
    }

    /// Makes `client` the reader, and tells it the job's present state again.
    pub fn claim(&mut self, client: ClientId, skip: usize, stamp: impl Fn() -> u64) {
        self.reader = Some(client);
        self.unread.clear();
        self.skip = match self.result() {
            Some(output) => skip.min(output.len()),
            None => 0,
        };
        let state = match (&self.end, &self.latest) {
            (Some(end), _) => vec![end.event.clone()],
            (None, latest) if latest.is_started => {
                let progress = latest.progress.map(|(at, left)| Event::Progress(at, left));
                [Event::Started].into_iter().chain(progress).collect()
            }
            (None, latest) => latest.position.map(Event::Queued).into_iter().collect(),
        };
        for event in state {
            self.push(event, None, &stamp);
        }
    }

    /// Drops the result to free its memory. Whoever asks for it is told so.
    pub fn expire(&mut self) {
        self.unread.clear();
        if let Some(end) = &mut self.end {
            if matches!(end.event, Event::Done(..)) {
                end._share = None;
                end.event = Event::Failed(expired());
            }
        }
    }
}

/// The error of a job whose result was dropped.
fn expired() -> WireError {
    WireError::new(
        ErrorCode::Expired,
        "The job was done, but its result had to make room for others before it was fetched.",
        "Submit the job again, or start the worker with a larger --keep.",
    )
}
