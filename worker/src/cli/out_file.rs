//! Files that a command writes. They are checked before the work starts, and written
//! atomically: to a temporary file that then replaces the target.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::CliError;

/// The temporary file that is being written, if any. A temporary file is created and renamed
/// only under this lock.
static TEMPORARY: Mutex<Option<PathBuf>> = Mutex::new(None);

fn temporary() -> MutexGuard<'static, Option<PathBuf>> {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the temporary file, if there is one, and blocks further writes for ever. For the end
/// of the program.
pub fn remove_temporary() {
    let temporary = temporary();
    if let Some(path) = &*temporary {
        // The program is ending: an error could not be reported.
        let _ = fs::remove_file(path);
    }
    std::mem::forget(temporary);
}

/// A file to write.
#[derive(Clone, Debug)]
pub struct OutFile {
    named: PathBuf,
    /// The same file, with symbolic links resolved.
    target: PathBuf,
}

impl OutFile {
    /// Checks that a file of about `bytes` can be written, by writing a temporary file of that
    /// size in the same folder and removing it.
    ///
    /// # Errors
    /// The path is not that of an ordinary file, or the file cannot be written there.
    pub fn check(named: &Path, bytes: usize) -> Result<Self, CliError> {
        let target = target(named).map_err(|why| cannot_write(named, &why))?;
        let file = Self {
            named: named.to_owned(),
            target,
        };
        let written = file.write_temporary(|temporary| {
            let block = [0; 1 << 14];
            let mut left = bytes;
            while left > 0 {
                let now = left.min(block.len());
                temporary.write_all(&block[..now])?;
                left -= now;
            }
            Ok(())
        });
        let removed = written.and_then(|()| file.finish(|path| fs::remove_file(path)));
        removed.map_err(|e| cannot_write(named, &e.into()))?;
        Ok(file)
    }

    /// The path as the user gave it.
    pub fn path(&self) -> &Path {
        &self.named
    }

    /// Whether two paths lead to the same file.
    pub fn is(&self, other: &Self) -> bool {
        self.target == other.target
    }

    /// Writes the file. An existing file is replaced once all bytes are on the disk, and keeps
    /// its permissions.
    ///
    /// # Errors
    /// The file cannot be written. An existing file is unchanged.
    pub fn write(&self, bytes: &[u8]) -> Result<(), CliError> {
        self.write_with(|temporary| temporary.write_all(bytes))
    }

    /// As [`write`](Self::write), for a file that `fill` writes.
    ///
    /// # Errors
    /// The file cannot be written, or `fill` fails. An existing file is unchanged.
    pub fn write_with(
        &self,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), CliError> {
        let written = self.write_temporary(|temporary| {
            fill(temporary)?;
            if let Ok(old) = fs::metadata(&self.target) {
                // Fails for another user's file, which is then replaced with default permissions.
                let _ = temporary.set_permissions(old.permissions());
            }
            temporary.sync_all()
        });
        let renamed = written.and_then(|()| self.finish(|path| fs::rename(path, &self.target)));
        renamed.map_err(|e| cannot_write(&self.named, &e.into()))
    }

    /// Creates a temporary file in the same folder and fills it with `write`. Removes it if that
    /// fails.
    fn write_temporary(&self, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // A short name, for file systems that limit the length of names.
        let name = format!(".ovis-{process}-{count}");
        let path = self.target.with_file_name(name);
        let mut file = {
            let mut temporary = temporary();
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)?;
            *temporary = Some(path);
            file
        };
        let written = write(&mut file);
        drop(file);
        if written.is_err() {
            // The first error is the one to report.
            let _ = self.finish(|path| fs::remove_file(path));
        }
        written
    }

    /// Renames or removes the temporary file with `last`, and forgets it.
    fn finish(&self, last: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let mut temporary = temporary();
        let Some(path) = temporary.as_ref() else {
            return Ok(());
        };
        let result = last(path);
        if result.is_err() {
            // The first error is the one to report.
            let _ = fs::remove_file(path);
        }
        *temporary = None;
        result
    }
}

/// Why a file cannot be written, as a clause.
#[derive(Debug, thiserror::Error)]
enum Unwritable {
    #[error("its name is that of a folder")]
    FolderName,
    #[error("it is a folder")]
    Folder,
    #[error("it is a pipe or a device, not an ordinary file")]
    NotAFile,
    #[error("it is a link to what does not exist")]
    DanglingLink,
    #[error("the folder {} does not exist", .0.display())]
    NoFolder(PathBuf),
    #[error("{}", in_words(.0))]
    Io(#[from] io::Error),
}

/// Resolves a path to the file it leads to, which may not exist yet.
fn target(named: &Path) -> Result<PathBuf, Unwritable> {
    let text = named.as_os_str().as_encoded_bytes();
    if text.ends_with(b"/") || (cfg!(windows) && text.ends_with(b"\\")) {
        return Err(Unwritable::FolderName);
    }
    let target = match fs::metadata(named) {
        Ok(found) if found.is_dir() => return Err(Unwritable::Folder),
        Ok(found) if !found.is_file() => return Err(Unwritable::NotAFile),
        Ok(_) => {
            OpenOptions::new().append(true).open(named)?;
            fs::canonicalize(named)?
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(named).is_ok() {
                return Err(Unwritable::DanglingLink);
            }
            in_its_folder(named)?
        }
        Err(e) => return Err(e.into()),
    };
    Ok(target)
}

/// The path of a file that does not exist yet, with the links of its folder resolved.
fn in_its_folder(named: &Path) -> Result<PathBuf, Unwritable> {
    let folder = match named.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Err(Unwritable::FolderName),
    };
    let Some(name) = named.file_name() else {
        return Err(Unwritable::FolderName);
    };
    match fs::canonicalize(folder) {
        Ok(folder) => Ok(folder.join(name)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Unwritable::NoFolder(folder.to_owned()))
        }
        Err(e) => Err(e.into()),
    }
}

/// The message for an I/O error, in plain words for those that a user can do something about.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full".into(),
        io::ErrorKind::QuotaExceeded => "the disk's quota is used up".into(),
        io::ErrorKind::FileTooLarge => "a file may not be that large here".into(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        io::ErrorKind::PermissionDenied => {
            "the file or its folder is not yours to write (permission denied)".into()
        }
        _ => error.to_string(),
    }
}

fn cannot_write(path: &Path, why: &Unwritable) -> CliError {
    CliError::new(
        format!("{} cannot be written: {why}", path.display()),
        "Name a file in a folder that exists, that you may write to and that has room.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |e: io::Result<fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    /// One test for all cases: only one temporary file may exist at a time.
    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let file = OutFile::check(&path, 100_000).unwrap();
        assert!(names(folder.path()).is_empty());

        file.write(b"first").unwrap();
        file.write(b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");

        let failed = file.write_temporary(|temporary| {
            temporary.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(folder.path()), ["a.png"]);

        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            file.write(b"third").unwrap();
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o640
            );

            let link = folder.path().join("link.png");
            std::os::unix::fs::symlink("a.png", &link).unwrap();
            let linked = OutFile::check(&link, 1).unwrap();
            assert!(linked.is(&file));
            linked.write(b"fourth").unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read(&path).unwrap(), b"fourth");
        }

        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(file.write(b"x").is_err());
        assert!(names(&path).is_empty());
    }
}
