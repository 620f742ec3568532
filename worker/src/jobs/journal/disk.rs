//! A journal in a folder.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ovis_protocol::TensorHeader;

use super::contract::{
    JobRecord, Journal, JournalError, JournalUsage, RecordKey, RecordedEnd, Recovered,
};
use super::files;
use super::folder::{Folder, Suffix};
use super::known::{Begun, Known};
use super::recovery;
use super::sections::{self, Kind};
use super::writer::{Task, Work, Writer};

/// How often failed writes are logged at most.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A journal in a folder. Dropping it writes what waits.
pub struct DiskJournal {
    files: Arc<Files>,
    writer: Writer,
    most: u64,
}

/// What the journal's callers and its thread share.
struct Files {
    folder: Folder,
    /// The jobs that have not been forgotten, and how often each was begun.
    jobs: Mutex<HashMap<RecordKey, Known>>,
    failed_writes: AtomicU64,
    last_logged: Mutex<Option<Instant>>,
}

impl DiskJournal {
    /// Opens or creates the journal in a state folder, which no other worker may use
    /// meanwhile. All files together take at most `most` bytes, beside states and ends of jobs
    /// that were accepted.
    ///
    /// # Errors
    /// Another worker uses the folder, or it cannot be read or written.
    pub fn open(dir: &Path, most: u64) -> Result<Self, JournalError> {
        let files = Arc::new(Files {
            folder: Folder::open(dir)?,
            jobs: Mutex::default(),
            failed_writes: AtomicU64::new(0),
            last_logged: Mutex::default(),
        });
        let writer = Writer::start(files.clone()).map_err(|source| JournalError::Io {
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            files,
            writer,
            most,
        })
    }
}

impl Files {
    fn jobs(&self) -> MutexGuard<'_, HashMap<RecordKey, Known>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure, and logs one of them a minute.
    fn note(&self, written: Result<(), JournalError>) {
        let Err(error) = written else {
            return;
        };
        self.failed_writes.fetch_add(1, Ordering::Relaxed);
        let mut last = self
            .last_logged
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            *last = Some(Instant::now());
            tracing::error!(%error, "the state folder cannot be written; jobs may be lost with this process");
        }
    }

    fn write_begun(&self, key: RecordKey, begun: Begun) -> Result<(), JournalError> {
        let text = begun.text();
        let write = |out: &mut dyn std::io::Write| out.write_all(text.as_bytes());
        self.folder.write(key, Suffix::Begun, false, write)
    }
}

impl Work for Files {
    fn state(&self, key: RecordKey, step: u32, state: &[u8]) {
        let written = files::state(key, step).and_then(|metadata| {
            self.folder.write(key, Suffix::State, false, |out| {
                sections::write(out, Kind::State, &metadata, &[state])
            })?;
            if let Some(known) = self.jobs().get_mut(&key) {
                known.begun = Begun { count: 0, step };
            }
            self.folder.remove(key, &[Suffix::Begun])
        });
        self.note(written);
    }

    fn end(&self, key: RecordKey, end: &RecordedEnd) {
        let record = self.jobs().get(&key).map(|known| known.record.clone());
        let Some(record) = record else {
            return;
        };
        let written = files::end(&record, SystemTime::now(), end).and_then(|content| {
            let parts: Vec<_> = content.sections.iter().map(Vec::as_slice).collect();
            self.folder.write(key, Suffix::End, true, |out| {
                sections::write(out, content.kind, &content.metadata, &parts)
            })?;
            let rest = [Suffix::Job, Suffix::State, Suffix::Begun];
            self.folder.remove(key, &rest)
        });
        self.note(written);
    }

    fn forget(&self, key: RecordKey) {
        self.jobs().remove(&key);
        self.note(self.folder.remove(key, &Suffix::ALL));
    }
}

impl Journal for DiskJournal {
    fn accept(
        &self,
        job: &JobRecord,
        tensors: &[(TensorHeader, Vec<u8>)],
    ) -> Result<(), JournalError> {
        // What still waits belongs to a former job of this key.
        self.writer.settle(job.key);
        let folder = &self.files.folder;
        let headers = tensors.iter().map(|(header, _)| header.clone()).collect();
        let (metadata, submit) = files::job(job, headers)?;
        let mut parts = vec![submit.as_slice()];
        parts.extend(tensors.iter().map(|(_, bytes)| bytes.as_slice()));
        let used = folder.bytes().saturating_sub(folder.bytes_of(job.key));
        let needed = sections::file_len(metadata.len(), &parts);
        if used.saturating_add(needed) > self.most {
            return Err(JournalError::Full {
                used,
                needed,
                most: self.most,
            });
        }
        let written = folder
            .remove(job.key, &[Suffix::State, Suffix::Begun, Suffix::End])
            .and_then(|()| {
                folder.write(job.key, Suffix::Job, true, |out| {
                    sections::write(out, Kind::Job, &metadata, &parts)
                })
            });
        if written.is_err() {
            self.files.failed_writes.fetch_add(1, Ordering::Relaxed);
            // A job that is not known to be whole on the disk must not be there again later.
            let _ = folder.remove(job.key, &Suffix::ALL);
            return written;
        }
        let known = Known {
            record: Arc::new(job.clone()),
            begun: Begun::default(),
        };
        self.files.jobs().insert(job.key, known);
        Ok(())
    }

    fn begin(&self, key: RecordKey) {
        let begun = self.files.jobs().get_mut(&key).map(|known| {
            known.begun.count += 1;
            known.begun
        });
        // At once, not by the thread: the job may end the process with its first operation.
        if let Some(begun) = begun {
            self.files.note(self.files.write_begun(key, begun));
        }
    }

    fn checkpoint(&self, key: RecordKey, step: u32, state: Arc<[u8]>) {
        if self.files.jobs().contains_key(&key) {
            self.writer.push_state(key, step, state);
        }
    }

    fn end(&self, key: RecordKey, end: RecordedEnd) {
        self.writer.push(key, Task::End(end));
    }

    fn forget(&self, key: RecordKey) {
        self.writer.push(key, Task::Forget);
    }

    fn recover(&self) -> Box<dyn Iterator<Item = Recovered> + '_> {
        let folder = &self.files.folder;
        let jobs = recovery::names(folder).into_iter().filter_map(move |name| {
            let (job, begun) = recovery::job(folder, &name)?;
            let known = Known {
                record: Arc::new(job.record.clone()),
                begun,
            };
            self.files.jobs().insert(job.record.key, known);
            Some(job)
        });
        Box::new(jobs)
    }

    fn usage(&self) -> JournalUsage {
        JournalUsage {
            bytes: self.files.folder.bytes(),
            failed_writes: self.files.failed_writes.load(Ordering::Relaxed),
            skipped_states: self.writer.skipped_states(),
        }
    }

    fn flush(&self, timeout: Duration) {
        self.writer.flush(timeout);
    }
}
