//! A memory-mapped file of any format.

use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::error::WeightsError;
use super::folder;

/// A file mapped into memory for reading. Its pages are read from disk when they are first
/// accessed.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps a regular file whose download has finished.
    ///
    /// # Errors
    /// [`WeightsError::Unfinished`] if aria2's control file lies beside it;
    /// [`WeightsError::NotAFile`], [`WeightsError::DeadLink`] or
    /// [`WeightsError::Unreadable`] if it cannot be opened and mapped.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = folder::open_file(path)?;
        let mut control = path.as_os_str().to_owned();
        control.push(".aria2");
        if Path::new(&control).exists() {
            return Err(WeightsError::Unfinished {
                file: path.to_owned(),
                reason: "aria2's control file beside it says that its download goes on".into(),
            });
        }
        // SAFETY: the map is read-only and private to this process. If another program
        // rewrites the file in place, wrong values are read; if it shortens the file, the
        // process is killed on access. Every loader that maps its files has this limit.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| folder::unreadable(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            map,
        })
    }

    /// Path that the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Whether both are the same file or have equal bytes. Reads both up to the first
    /// difference.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same_place = matches!(
            (self.path.canonicalize(), other.path.canonicalize()),
            (Ok(ours), Ok(theirs)) if ours == theirs
        );
        same_place || self.map[..] == other.map[..]
    }

    /// Reads `length` bytes from `start` on into memory, or fewer at the file's end, and
    /// maps their pages.
    ///
    /// # Errors
    /// The operating system has no such call.
    pub(super) fn populate(&self, start: usize, length: usize) -> std::io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            let length = length.min(self.map.len() - start);
            self.map
                .advise_range(memmap2::Advice::PopulateRead, start, length)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (start, length);
            Err(std::io::ErrorKind::Unsupported.into())
        }
    }

    /// Unmaps all pages, so that they no longer count as this process's memory. The file
    /// stays open, and a later access maps its pages again.
    pub(super) fn release(&self) {
        #[cfg(target_os = "linux")]
        // SAFETY: the map is read-only and backed by a file, so that dropped pages are read
        // from the file again with the same contents.
        if let Err(reason) = unsafe {
            self.map
                .unchecked_advise(memmap2::UncheckedAdvice::DontNeed)
        } {
            tracing::debug!(%reason, "mapped pages are not released");
        }
    }
}
