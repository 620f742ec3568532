//! Clients of a store: what they read, claim and acknowledge.

use super::*;
use crate::jobs::content::Content;
use crate::jobs::mailbox::MAX_PREVIEWS;
use crate::jobs::owner::Party;
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
    attached: Attached,
}

fn id(job: u8) -> Uuid {
    Uuid::from_bytes([job; 16])
}

impl Reader {
    /// A client without a secret.
    fn new(store: &Arc<MemoryStore>, client: ClientId) -> Self {
        let owner = Owner::new([127, 0, 0, 1].into(), format!("client {client}"));
        Self::of(store, client, &owner)
    }

    /// A client of the owner that `secret` makes.
    fn lasting(store: &Arc<MemoryStore>, client: ClientId, secret: u8) -> Self {
        let party = Party::Token("test".into());
        let owner = Owner::of_secret(party, format!("client {client}"), &[secret; 32]);
        Self::of(store, client, &owner)
    }

    fn of(store: &Arc<MemoryStore>, client: ClientId, owner: &Owner) -> Self {
        let subscription = Subscription::new(store.clone(), client);
        Self {
            store: store.clone(),
            attached: subscription.attach(owner),
            subscription,
        }
    }

    fn alone() -> Self {
        Self::new(&Arc::new(MemoryStore::new(u64::MAX)), 1)
    }

    fn key(&self, job: u8) -> JobKey {
        JobKey {
            owner: self.attached.owner,
            number: job.into(),
        }
    }

    fn put(&self, job: u8) {
        let new = NewJob {
            id: id(job),
            reader: Some(self.subscription.client()),
            content: Content::default(),
            age: Duration::ZERO,
            open: self.attached.open.open(id(job), 0).unwrap(),
        };
        self.store.put(self.key(job), new);
    }

    fn claim(&self, job: u8, skip: usize) -> bool {
        let client = self.subscription.client();
        let found = self.store.find(client, id(job));
        if let Some(found) = found {
            self.store.claim(client, found.job, skip);
        }
        found.is_some()
    }

    fn acknowledge(&self, job: u8) -> bool {
        let client = self.subscription.client();
        self.store.acknowledge(client, id(job)).is_some()
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
        self.attached.open.has(id(job))
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
    assert_eq!(store.kept().bytes, MAX_PREVIEWS as u64 * 192);
    reader.put(9);
    reader.append(9, preview(1, 16));
    let events = reader.drain();
    assert_eq!(events.len(), MAX_PREVIEWS, "no room for a large one");
    assert_eq!(store.kept().bytes, 0);
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
fn a_job_is_open_until_its_end_is_acknowledged() {
    let reader = Reader::alone();
    reader.put(1);
    assert!(!reader.acknowledge(1), "it has not ended");
    reader.append(1, done(3));
    assert_eq!(reader.drain().len(), 1);
    let key = reader.key(1);
    for _ in 0..2 {
        let bytes = reader.subscription.read(key, 0..2).unwrap();
        assert_eq!(bytes, 1.5_f32.to_le_bytes().repeat(2));
        assert_eq!(reader.subscription.read(key, 2..3).unwrap().len(), 4);
        assert!(reader.subscription.read(key, 2..4).is_none());
    }
    assert!(reader.has(1) && reader.store.kept().bytes == 12);
    assert!(reader.acknowledge(1) && !reader.acknowledge(1));
    assert!(!reader.has(1) && reader.store.kept().bytes == 0);
    assert!(reader.subscription.read(key, 0..1).is_none());

    reader.put(2);
    reader.append(2, Event::Cancelled);
    assert!(reader.has(2) && reader.acknowledge(2) && !reader.has(2));
    assert!(reader.drain().is_empty());
}

#[test]
fn a_closed_client_takes_nothing_and_can_be_read() {
    let reader = Reader::alone();
    for job in [1, 2] {
        reader.put(job);
    }
    reader.append(1, done(1));
    reader.subscription.close();
    reader.append(2, Event::Started);
    assert!(matches!(reader.drain()[..], [Event::Done(..)]));
    assert!(reader.has(1) && reader.has(2));
    reader.subscription.abandon();
    assert!(!reader.has(1) && !reader.has(2));
}

fn progress(step: u32) -> Event {
    let report = StepReport {
        step,
        total: 9,
        sigma: 0.5,
    };
    Event::Progress(report, 1.0)
}

#[test]
fn another_client_of_the_owner_takes_a_job_over_where_it_stands() {
    let store = Arc::new(MemoryStore::new(u64::MAX));
    let first = Reader::lasting(&store, 1, 7);
    for job in [1, 2, 3] {
        first.put(job);
        first.append(job, Event::Queued(4));
    }
    first.append(1, Event::Started);
    first.append(1, progress(3));
    first.append(2, done(3));
    let second = Reader::lasting(&store, 2, 7);
    assert!(second.drain().is_empty(), "nothing is claimed yet");
    for job in [1, 2, 3] {
        assert!(second.claim(job, 1));
    }
    let told = second.drain();
    assert!(
        matches!(
            &told[..],
            [Event::Started, Event::Progress(report, _), Event::Done(..), Event::Queued(4)]
                if report.step == 3
        ),
        "{told:?}"
    );
    assert!(first.drain().is_empty());
    let key = second.key(2);
    assert!(first.subscription.read(key, 0..1).is_none());
    assert!(second.subscription.read(key, 0..1).is_some());
    // The rest goes to the new reader only.
    second.append(1, progress(4));
    assert!(first.drain().is_empty());
    assert!(matches!(second.drain()[..], [Event::Progress(..)]));
}

#[test]
fn a_claimed_result_begins_where_the_first_transfer_ended() {
    let store = Arc::new(MemoryStore::new(u64::MAX));
    let reader = Reader::lasting(&store, 1, 7);
    reader.put(1);
    reader.append(1, done(3));
    for (skip, expected) in [(2, 2), (0, 0), (9, 3)] {
        assert!(reader.claim(1, skip));
        let delivered = reader.subscription.next(None).unwrap();
        assert_eq!(delivered.skip, expected);
    }
    // A job that is computed again is sent from its beginning.
    reader.put(2);
    reader.claim(2, 2);
    reader.append(2, done(3));
    assert_eq!(reader.subscription.next(None).unwrap().skip, 0);
}

#[test]
fn jobs_outlive_the_connection_of_a_lasting_owner_and_no_other() {
    let store = Arc::new(MemoryStore::new(u64::MAX));
    for (lasts, make) in [
        (true, Reader::lasting(&store, 1, 7)),
        (false, Reader::new(&store, 2)),
    ] {
        make.put(1);
        make.put(2);
        let (client, key) = (make.subscription.client(), make.key(2));
        drop(make);
        store.append(key, done(2));
        assert_eq!(store.kept().bytes, if lasts { 8 } else { 0 });
        assert_eq!(store.kept().away, 1, "the unfinished job's owner");
        let back = match lasts {
            true => Reader::lasting(&store, client + 10, 7),
            false => Reader::new(&store, client + 10),
        };
        assert_eq!(back.claim(1, 0), lasts);
        assert_eq!(back.claim(2, 0), lasts);
        assert_eq!(back.drain().len(), usize::from(lasts));
        let stranger = Reader::lasting(&store, client + 20, 8);
        assert!(!stranger.claim(1, 0) && !stranger.acknowledge(2));
        assert_eq!(back.acknowledge(2), lasts);
    }
    assert!(store.lock().mailboxes.len() == 1, "an unfinished job's");
}

#[test]
fn what_nobody_fetches_is_forgotten_in_time() {
    let store = Arc::new(MemoryStore::new(u64::MAX));
    let reader = Reader::lasting(&store, 1, 7);
    for job in [1, 2] {
        reader.put(job);
    }
    reader.append(1, done(1));
    let unfinished = reader.key(2);
    let owner = OwnerId::of_secret(&[7; 32]);
    let keep = Duration::from_secs(60);
    let later = Instant::now() + 2 * keep;
    assert_eq!(store.sweep(Instant::now(), keep), Swept::default());
    let swept = store.sweep(later, keep);
    assert_eq!(
        (swept.forgotten, swept.abandoned),
        (vec![(owner, id(1))], vec![])
    );
    drop(reader);
    let swept = store.sweep(later, keep);
    assert_eq!(
        (swept.forgotten, swept.abandoned),
        (vec![], vec![unfinished])
    );
    store.append(unfinished, Event::Cancelled);
    assert_eq!(
        store.sweep(later + keep, keep).forgotten,
        vec![(owner, id(2))]
    );
    assert!(store.lock().mailboxes.is_empty() && store.lock().lasting.is_empty());
}

#[test]
fn an_owner_that_is_away_makes_room_first_and_is_told() {
    let store = Arc::new(MemoryStore::new(40));
    let away = Reader::lasting(&store, 1, 1);
    let present = Reader::lasting(&store, 2, 2);
    let new = Reader::lasting(&store, 3, 3);
    away.put(1);
    away.append(1, done(3));
    away.put(2);
    present.put(1);
    present.append(1, done(4));
    drop(away);
    new.put(1);
    new.append(1, done(4));
    assert!(matches!(new.drain()[..], [Event::Done(..)]));
    assert!(matches!(present.drain()[..], [Event::Done(..)]));
    assert_eq!(store.kept().bytes, 32);
    let back = Reader::lasting(&store, 4, 1);
    assert!(back.claim(1, 2) && back.claim(2, 0));
    assert!(
        matches!(&back.drain()[..], [Event::Failed(error)] if error.code == ErrorCode::Expired)
    );
    // It may keep results again.
    back.append(2, done(2));
    assert!(matches!(back.drain()[..], [Event::Done(..)]));
}

#[test]
fn unread_results_are_bounded() {
    let store = Arc::new(MemoryStore {
        per_owner: 12,
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
    assert_eq!(store.kept().bytes, 0);
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
