//! Which files there are, and how they are written whole or not at all.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::contract::{JournalError, RecordKey};

/// Suffix of a file that is being written.
const PARTIAL: &str = "partial";

/// Most damaged files that are kept aside, for people to look at.
const MAX_DAMAGED: usize = 64;

/// The files of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suffix {
    /// The accepted job.
    Job,
    /// The latest state.
    State,
    /// How often a device has begun the job since that state.
    Begun,
    /// How it ended.
    End,
}

impl Suffix {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Job, Self::State, Self::Begun, Self::End];

    fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::State => "state",
            Self::Begun => "begun",
            Self::End => "end",
        }
    }
}

/// The name of a file while it is being written.
pub(super) fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(PARTIAL);
    name.into()
}

/// A folder that one process has for itself.
pub struct Folder {
    jobs: PathBuf,
    damaged: PathBuf,
    /// Sizes of the files.
    sizes: Mutex<HashMap<PathBuf, u64>>,
    /// Held as long as the process uses the folder. The system releases it, however the process
    /// ends.
    _lock: File,
}

fn at(path: &Path) -> impl Fn(io::Error) -> JournalError + '_ {
    move |source| JournalError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Creates a folder that only this user can read.
fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Opens a file that only this user can read.
fn open_private(path: &Path, truncate: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(truncate);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Folder {
    /// Opens or creates the state folder `dir`, and removes what was not written to its end.
    ///
    /// # Errors
    /// Another worker uses the folder, or it cannot be read or written.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let (jobs, damaged) = (dir.join("jobs"), dir.join("damaged"));
        create_private(&jobs).map_err(at(&jobs))?;
        let path = dir.join("lock");
        let lock = open_private(&path, false).map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(JournalError::InUse { path: dir.into() });
            }
            Err(fs::TryLockError::Error(source)) => return Err(at(&path)(source)),
        }
        let mut sizes = HashMap::new();
        for entry in fs::read_dir(&jobs).map_err(at(&jobs))? {
            let entry = entry.map_err(at(&jobs))?;
            let path = entry.path();
            let metadata = entry.metadata().map_err(at(&path))?;
            if path.extension().is_some_and(|suffix| suffix == PARTIAL) {
                fs::remove_file(&path).map_err(at(&path))?;
            } else if metadata.is_file() {
                sizes.insert(path, metadata.len());
            }
        }
        Ok(Self {
            jobs,
            damaged,
            sizes: Mutex::new(sizes),
            _lock: lock,
        })
    }

    fn sizes(&self) -> MutexGuard<'_, HashMap<PathBuf, u64>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.sizes().values().sum()
    }

    /// Bytes of a job's files.
    pub fn bytes_of(&self, key: RecordKey) -> u64 {
        let sizes = self.sizes();
        let of_job = Suffix::ALL.map(|suffix| self.path(key, suffix));
        of_job.iter().filter_map(|path| sizes.get(path)).sum()
    }

    /// All files with a suffix.
    pub fn all(&self, suffix: Suffix) -> Vec<PathBuf> {
        let is_it = |path: &&PathBuf| path.extension().is_some_and(|s| s == suffix.name());
        self.sizes().keys().filter(is_it).cloned().collect()
    }

    /// The path of a job's file.
    pub fn path(&self, key: RecordKey, suffix: Suffix) -> PathBuf {
        let owner: String = key.owner[..8].iter().map(|b| format!("{b:02x}")).collect();
        self.named(&format!("{owner}-{}", key.id.simple()), suffix)
    }

    /// The path of a file of the job with this name.
    pub fn named(&self, name: &str, suffix: Suffix) -> PathBuf {
        self.jobs.join(format!("{name}.{}", suffix.name()))
    }

    /// Writes a job's file, in place of an earlier one. The file appears whole or not at all.
    /// With `is_durable`, it also survives a loss of power.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(
        &self,
        key: RecordKey,
        suffix: Suffix,
        is_durable: bool,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), JournalError> {
        let path = self.path(key, suffix);
        let partial = partial(&path);
        let written = (|| {
            let mut out = BufWriter::with_capacity(1 << 20, open_private(&partial, true)?);
            content(&mut out)?;
            let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            if is_durable {
                file.sync_all()?;
            }
            let bytes = file.metadata()?.len();
            fs::rename(&partial, &path)?;
            if is_durable {
                sync_folder(&self.jobs)?;
            }
            Ok(bytes)
        })();
        match written {
            Ok(bytes) => {
                self.sizes().insert(path, bytes);
                Ok(())
            }
            Err(source) => {
                let _ = fs::remove_file(&partial);
                Err(at(&path)(source))
            }
        }
    }

    /// Removes some of a job's files.
    ///
    /// # Errors
    /// A file is there and cannot be removed.
    pub fn remove(&self, key: RecordKey, suffixes: &[Suffix]) -> Result<(), JournalError> {
        for &suffix in suffixes {
            let path = self.path(key, suffix);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at(&path)(error));
                }
                _ => {
                    self.sizes().remove(&path);
                }
            }
        }
        Ok(())
    }

    /// Puts a damaged file aside, unless enough are there.
    pub fn put_aside(&self, path: &Path) {
        if fs::read_dir(&self.damaged).map_or(0, Iterator::count) >= MAX_DAMAGED {
            return;
        }
        let name = path.file_name().unwrap_or_default();
        let moved =
            create_private(&self.damaged).and_then(|()| fs::rename(path, self.damaged.join(name)));
        if let Err(error) = moved {
            tracing::warn!(path = %path.display(), %error, "a damaged file stays in the state folder");
        }
        self.sizes().remove(path);
    }
}

/// Makes a rename survive a loss of power.
fn sync_folder(path: &Path) -> io::Result<()> {
    // Windows has no such call; there a rename is durable with the file system's journal.
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    let _ = path;
    Ok(())
}
