//! A store in this process's memory: events and results end with it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ovis_protocol::limits::MAX_TENSOR_BYTES;
use uuid::Uuid;

use super::event::Event;
use super::id::{ClientId, JobKey};
use super::mailbox::Mailbox;
use super::open::OpenJob;
use super::quota::Quota;
use super::store::{Delivered, JobStore, Wake};

/// Keeps a mailbox for each client, and all mailboxes within one quota.
pub struct MemoryStore {
    quota: Arc<Quota>,
    /// Most bytes of one client's unread results.
    per_client: u64,
    mailboxes: Mutex<HashMap<ClientId, Arc<Mailbox>>>,
}

impl MemoryStore {
    /// An empty store. Unread results and previews of all clients take at most `bytes`, and
    /// unread results of one client at most [`MAX_TENSOR_BYTES`].
    pub fn new(bytes: u64) -> Self {
        Self {
            quota: Quota::new(bytes),
            per_client: MAX_TENSOR_BYTES,
            mailboxes: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, Arc<Mailbox>>> {
        self.mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn mailbox(&self, client: ClientId) -> Option<Arc<Mailbox>> {
        self.lock().get(&client).cloned()
    }
}

impl JobStore for MemoryStore {
    fn subscribe(&self, client: ClientId, wake: Arc<Wake>) {
        let mailbox = Mailbox::new(&self.quota, self.per_client, wake);
        self.lock().insert(client, mailbox);
    }

    fn unsubscribe(&self, client: ClientId) {
        let mailbox = self.lock().remove(&client);
        if let Some(mailbox) = mailbox {
            mailbox.clear();
        }
    }

    fn close(&self, client: ClientId) {
        if let Some(mailbox) = self.mailbox(client) {
            mailbox.close();
        }
    }

    fn discard_results(&self, client: ClientId) {
        if let Some(mailbox) = self.mailbox(client) {
            mailbox.discard_results();
        }
    }

    fn put(&self, job: JobKey, id: Uuid, open: OpenJob) {
        if let Some(mailbox) = self.mailbox(job.client) {
            mailbox.put(job.number, id, open);
        }
    }

    fn append(&self, job: JobKey, event: Event) {
        if let Some(mailbox) = self.mailbox(job.client) {
            mailbox.append(job.number, event);
        }
    }

    fn next(&self, client: ClientId, before: Option<u64>) -> Option<Delivered> {
        self.mailbox(client)?.next(client, before)
    }

    fn read(&self, job: JobKey, values: Range<usize>) -> Option<Vec<u8>> {
        self.mailbox(job.client)?.read(job.number, values)
    }

    fn note_read(&self, client: ClientId) {
        if let Some(mailbox) = self.mailbox(client) {
            mailbox.note_read();
        }
    }

    fn unread_bytes(&self) -> u64 {
        self.quota.used()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::mailbox::MAX_PREVIEWS;
    use crate::jobs::open::OpenJobs;
    use crate::jobs::subscription::Subscription;
    use crate::pipeline::{Latent, Output, Preview, StepReport};
    use ovis_protocol::{ErrorCode, Outcome, WireError};

    fn outcome() -> Outcome {
        Outcome {
            seconds_queued: 0.0,
            seconds_running: 0.0,
            cuts: vec![],
        }
    }

    fn output(values: usize) -> Output {
        let latent = Latent::from_values(vec![1.5; values], &[1, 1, 1, values]);
        Output::latent(&latent.unwrap()).unwrap()
    }

    fn done(values: usize) -> Event {
        Event::Done(outcome(), output(values))
    }

    fn preview(step: u32, side: u32) -> Event {
        let preview = Preview {
            width: side,
            height: side,
            rgb: vec![0; 3 * (side * side) as usize],
        };
        Event::Preview(step, preview)
    }

    /// A client of a store, whose jobs are named by one byte.
    struct Reader {
        store: Arc<MemoryStore>,
        subscription: Subscription,
        open: Arc<OpenJobs>,
    }

    impl Reader {
        fn new(store: &Arc<MemoryStore>, client: ClientId) -> Self {
            Self {
                store: store.clone(),
                subscription: Subscription::new(store.clone(), client),
                open: Arc::default(),
            }
        }

        fn alone() -> Self {
            Self::new(&Arc::new(MemoryStore::new(u64::MAX)), 1)
        }

        fn key(&self, job: u8) -> JobKey {
            JobKey {
                client: self.subscription.client(),
                number: job.into(),
            }
        }

        fn put(&self, job: u8) {
            let id = Uuid::from_bytes([job; 16]);
            let open = self.open.open(id, 0).unwrap();
            self.store.put(self.key(job), id, open);
        }

        fn append(&self, job: u8, event: Event) {
            self.store.append(self.key(job), event);
        }

        fn drain(&self) -> Vec<Event> {
            std::iter::from_fn(|| self.subscription.next(None))
                .map(|delivered| delivered.event)
                .collect()
        }

        fn has(&self, job: u8) -> bool {
            self.open.has(Uuid::from_bytes([job; 16]))
        }
    }

    #[test]
    fn a_slow_reader_sees_only_the_latest_progress_and_preview() {
        let reader = Reader::alone();
        reader.put(1);
        for step in 1..=1000 {
            let report = StepReport {
                step,
                total: 1000,
                sigma: 0.5,
            };
            reader.append(1, Event::Queued(step));
            reader.append(1, Event::Progress(report, 1.0));
            reader.append(1, preview(step, 1));
        }
        let events = reader.drain();
        assert!(
            matches!(
                &events[..],
                [Event::Queued(1000), Event::Progress(progress, _), Event::Preview(1000, _)]
                    if progress.step == 1000
            ),
            "{events:?}"
        );
    }

    #[test]
    fn events_of_several_jobs_keep_their_order() {
        let reader = Reader::alone();
        for job in [1, 2] {
            reader.put(job);
        }
        reader.append(2, Event::Queued(0));
        reader.append(1, Event::Queued(1));
        let own = reader.subscription.wake().stamp();
        reader.append(2, Event::Started);
        // Takes the place of the first one, which is before the stamp.
        reader.append(1, Event::Queued(0));
        let before: Vec<_> = std::iter::from_fn(|| reader.subscription.next(Some(own)))
            .map(|delivered| (delivered.job.number, delivered.event))
            .collect();
        assert!(
            matches!(before[..], [(2, Event::Queued(0)), (1, Event::Queued(0))]),
            "{before:?}"
        );
        assert!(matches!(reader.drain()[..], [Event::Started]));
    }

    #[test]
    fn previews_of_many_jobs_stay_few() {
        let store = Arc::new(MemoryStore::new(1000));
        let reader = Reader::new(&store, 1);
        for job in 0..9 {
            reader.put(job);
            reader.append(job, preview(1, 8));
        }
        assert_eq!(store.unread_bytes(), MAX_PREVIEWS as u64 * 192);
        reader.put(9);
        reader.append(9, preview(1, 16));
        let events = reader.drain();
        assert_eq!(events.len(), MAX_PREVIEWS, "no room for a large one");
        assert_eq!(store.unread_bytes(), 0);
    }

    #[test]
    fn a_job_ends_once() {
        let events = || {
            let error = WireError::new(ErrorCode::Internal, "late", "");
            [Event::Failed(error), done(2), Event::Cancelled]
        };
        for first in events() {
            let reader = Reader::alone();
            reader.put(1);
            reader.append(1, first);
            for late in events().into_iter().chain([Event::Started]) {
                reader.append(1, late);
            }
            assert_eq!(reader.drain().len(), 1);
            for late in events() {
                reader.append(1, late);
            }
            assert!(reader.drain().is_empty());
        }
    }

    #[test]
    fn a_job_is_open_until_its_result_is_read() {
        let reader = Reader::alone();
        reader.put(1);
        reader.append(1, done(3));
        assert_eq!(reader.drain().len(), 1);
        assert!(reader.has(1));
        let key = reader.key(1);
        let bytes = reader.subscription.read(key, 0..2).unwrap();
        assert_eq!(bytes, 1.5_f32.to_le_bytes().repeat(2));
        assert!(reader.has(1));
        assert_eq!(reader.subscription.read(key, 2..3).unwrap().len(), 4);
        assert!(!reader.has(1) && reader.store.unread_bytes() == 0);
        assert!(reader.subscription.read(key, 0..1).is_none());

        reader.put(2);
        reader.append(2, Event::Cancelled);
        assert!(reader.has(2));
        assert_eq!(reader.drain().len(), 1);
        assert!(!reader.has(2));
    }

    #[test]
    fn a_closed_mailbox_takes_nothing_and_can_be_read() {
        let reader = Reader::alone();
        for job in [1, 2] {
            reader.put(job);
        }
        reader.append(1, done(1));
        reader.subscription.close();
        reader.append(2, Event::Started);
        reader.subscription.discard_results();
        assert_eq!(reader.store.unread_bytes(), 0);
        assert!(matches!(reader.drain()[..], [Event::Done(..)]));
        assert!(!reader.has(1) && reader.has(2));
        reader.subscription.abandon();
        assert!(!reader.has(2));
    }

    #[test]
    fn unread_results_are_bounded() {
        let store = Arc::new(MemoryStore {
            per_client: 12,
            ..MemoryStore::new(u64::MAX)
        });
        let reader = Reader::new(&store, 1);
        for job in 1..=2 {
            reader.put(job);
            reader.append(job, done(2));
        }
        let events = reader.drain();
        assert!(matches!(
            &events[..],
            [Event::Done(..), Event::Failed(error)] if error.code == ErrorCode::QueueFull
        ));

        let store = Arc::new(MemoryStore::new(8));
        let (first, second) = (Reader::new(&store, 1), Reader::new(&store, 2));
        first.put(1);
        first.append(1, done(2));
        second.put(2);
        second.append(2, done(2));
        assert!(matches!(second.drain()[..], [Event::Failed(_)]));
        // A larger one evicts nobody either, as it is more than there is at all.
        second.put(3);
        second.append(3, done(3));
        assert!(matches!(second.drain()[..], [Event::Failed(_)]));
        assert!(!first.subscription.wake().is_evicted());
        drop(first);
        assert_eq!(store.unread_bytes(), 0);
        second.put(4);
        second.append(4, done(2));
        assert!(matches!(second.drain()[..], [Event::Done(..)]));
    }

    #[test]
    fn an_evicted_client_keeps_nothing() {
        let store = Arc::new(MemoryStore::new(12));
        let (large, small) = (Reader::new(&store, 1), Reader::new(&store, 2));
        large.put(1);
        large.append(1, done(3));
        small.put(2);
        small.append(2, done(1));
        assert!(large.subscription.wake().is_evicted() && !large.has(1));
        assert!(large.drain().is_empty());
        assert_eq!(small.drain().len(), 1);
    }
}
