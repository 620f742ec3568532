//! Files that a command writes: checked before the work, and written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::CliError;

/// The temporary file that is being written, if any. Whoever holds the lock keeps files
/// from appearing under their names.
static TEMPORARY: Mutex<Option<PathBuf>> = Mutex::new(None);

fn temporary() -> MutexGuard<'static, Option<PathBuf>> {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes a file that is being written, and lets no other be begun: the program ends.
pub fn abandon() {
    let temporary = temporary();
    if let Some(path) = &*temporary {
        // There is nobody left to tell.
        let _ = fs::remove_file(path);
    }
    std::mem::forget(temporary);
}

/// A file to be written.
#[derive(Clone, Debug)]
pub struct OutFile {
    named: PathBuf,
    /// The same file, with links followed.
    target: PathBuf,
}

impl OutFile {
    /// Checks that a file of about `bytes` can be written there, by writing one beside it
    /// and removing that again.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(named: &Path, bytes: usize) -> Result<Self, CliError> {
        let target = target(named).map_err(|why| cannot(named, why))?;
        let file = Self {
            named: named.to_owned(),
            target,
        };
        let written = file.beside(|temporary| {
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
        removed.map_err(|e| cannot(named, in_words(&e)))?;
        Ok(file)
    }

    /// Where it is, as it was named.
    pub fn path(&self) -> &Path {
        &self.named
    }

    /// Whether the two are one file.
    pub fn is(&self, other: &Self) -> bool {
        self.target == other.target
    }

    /// Writes the file; what was there before is replaced once all bytes are on the disk.
    ///
    /// # Errors
    /// It cannot be written; what was there before is still there.
    pub fn write(&self, bytes: &[u8]) -> Result<(), CliError> {
        let written = self.beside(|temporary| {
            temporary.write_all(bytes)?;
            if let Ok(old) = fs::metadata(&self.target) {
                // Another owner's file keeps its bytes' safety, if not its permissions.
                let _ = temporary.set_permissions(old.permissions());
            }
            temporary.sync_all()
        });
        let renamed = written.and_then(|()| self.finish(|path| fs::rename(path, &self.target)));
        renamed.map_err(|e| cannot(&self.named, in_words(&e)))
    }

    /// Writes a temporary file in the same folder; it is removed again on an error.
    fn beside(&self, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // As short as it is, every file system that takes the file's name takes it too.
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
            // The error to tell is the one before.
            let _ = self.finish(|path| fs::remove_file(path));
        }
        written
    }

    /// Does the last thing with the temporary file.
    fn finish(&self, last: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let mut temporary = temporary();
        let Some(path) = temporary.as_ref() else {
            return Ok(());
        };
        let result = last(path);
        if result.is_err() {
            // The error to tell is the one before.
            let _ = fs::remove_file(path);
        }
        *temporary = None;
        result
    }
}

/// Where a path leads, if that is a file or could become one.
fn target(named: &Path) -> Result<PathBuf, String> {
    let text = named.as_os_str().as_encoded_bytes();
    if text.ends_with(b"/") || (cfg!(windows) && text.ends_with(b"\\")) {
        return Err("its name is that of a folder".into());
    }
    let target = match fs::metadata(named) {
        Ok(found) if found.is_dir() => return Err("it is a folder".into()),
        Ok(found) if !found.is_file() => {
            return Err("it is a pipe or a device, not an ordinary file".into())
        }
        Ok(_) => {
            let opened = OpenOptions::new().append(true).open(named);
            opened.map_err(|e| in_words(&e))?;
            fs::canonicalize(named).map_err(|e| in_words(&e))?
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(named).is_ok() {
                return Err("it is a link to what does not exist".into());
            }
            in_its_folder(named)?
        }
        Err(e) => return Err(in_words(&e)),
    };
    Ok(target)
}

/// A new file's path, with its folder's links followed.
fn in_its_folder(named: &Path) -> Result<PathBuf, String> {
    let folder = match named.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Err("its name is that of a folder".into()),
    };
    let Some(name) = named.file_name() else {
        return Err("its name is that of a folder".into());
    };
    match fs::canonicalize(folder) {
        Ok(folder) => Ok(folder.join(name)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let folder = folder.display();
            Err(format!("the folder {folder} does not exist"))
        }
        Err(e) => Err(in_words(&e)),
    }
}

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

fn cannot(path: &Path, why: String) -> CliError {
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

    /// One at a time, as the program does: the temporary file is one.
    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let file = OutFile::check(&path, 100_000).unwrap();
        assert!(names(folder.path()).is_empty());

        file.write(b"first").unwrap();
        file.write(b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");

        let failed = file.beside(|temporary| {
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
