//! The thread that writes what must not delay a device.
//!
//! Ends and removals wait in a queue. A state waits in a place of its own job, where a newer one
//! replaces it, so slow disks cost states and not memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::contract::{RecordKey, RecordedEnd};

/// What is to be done with a job's files.
pub enum Task {
    /// Write the state that waits, if one still does.
    State,
    /// Write how it ended, and remove the rest.
    End(RecordedEnd),
    /// Remove all.
    Forget,
}

/// Does a task. States come with their number of steps.
pub trait Work: Send + Sync {
    /// Writes a state after so many steps.
    fn state(&self, key: RecordKey, step: u32, state: &[u8]);
    /// Writes an end.
    fn end(&self, key: RecordKey, end: &RecordedEnd);
    /// Removes a job's files.
    fn forget(&self, key: RecordKey);
}

#[derive(Default)]
struct Inner {
    tasks: VecDeque<(RecordKey, Task)>,
    states: HashMap<RecordKey, (u32, Arc<[u8]>)>,
    /// The job whose files are being written.
    current: Option<RecordKey>,
    skipped_states: u64,
    is_closed: bool,
}

struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let waited = self.changed.wait(inner);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands tasks to the thread.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(work: Arc<dyn Work>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            inner: Mutex::default(),
            changed: Condvar::new(),
        });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || run(&of_thread, &*work))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Adds a task behind those that wait. The tasks of a job that an end or a removal makes
    /// pointless are dropped.
    pub fn push(&self, key: RecordKey, task: Task) {
        let mut inner = self.shared.lock();
        inner.drop_tasks(key);
        inner.tasks.push_back((key, task));
        drop(inner);
        self.shared.changed.notify_all();
    }

    /// Replaces the state of a job that waits, if any. Nothing is written of a job that has
    /// ended.
    pub fn push_state(&self, key: RecordKey, step: u32, state: Arc<[u8]>) {
        let mut inner = self.shared.lock();
        let has_ended = inner.tasks.iter().any(|(other, _)| *other == key);
        let waits = inner.states.contains_key(&key);
        if has_ended && !waits {
            return;
        }
        if inner.states.insert(key, (step, state)).is_some() {
            inner.skipped_states += 1;
        } else {
            inner.tasks.push_back((key, Task::State));
        }
        drop(inner);
        self.shared.changed.notify_all();
    }

    /// Drops the tasks of a job, and waits while one of them is under way.
    pub fn settle(&self, key: RecordKey) {
        let mut inner = self.shared.lock();
        inner.drop_tasks(key);
        while inner.current == Some(key) {
            inner = self.shared.wait(inner);
        }
    }

    /// Waits until every task is done, but no longer than `timeout`.
    pub fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut inner = self.shared.lock();
        while !inner.is_idle() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return tracing::warn!("the state folder could not be written in time");
            }
            let waited = self.shared.changed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// States that newer ones have replaced before they were written.
    pub fn skipped_states(&self) -> u64 {
        self.shared.lock().skipped_states
    }
}

impl Drop for Writer {
    /// Does what waits, and ends the thread.
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic is logged by its hook.
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.current.is_none()
    }

    fn drop_tasks(&mut self, key: RecordKey) {
        self.states.remove(&key);
        self.tasks.retain(|(other, _)| *other != key);
    }
}

fn run(shared: &Shared, work: &dyn Work) {
    let mut inner = shared.lock();
    loop {
        let Some((key, task)) = inner.tasks.pop_front() else {
            if inner.is_closed {
                return;
            }
            inner = shared.wait(inner);
            continue;
        };
        let state = match task {
            Task::State => inner.states.remove(&key),
            _ => None,
        };
        inner.current = Some(key);
        drop(inner);
        match (task, state) {
            (Task::State, Some((step, state))) => work.state(key, step, &state),
            (Task::State, None) => {}
            (Task::End(end), _) => work.end(key, &end),
            (Task::Forget, _) => work.forget(key),
        }
        inner = shared.lock();
        inner.current = None;
        shared.changed.notify_all();
    }
}
