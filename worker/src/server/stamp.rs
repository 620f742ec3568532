//! What tells one version of a file from the next.

use std::fs::Metadata;
use std::path::Path;
use std::time::SystemTime;

/// What tells one version of a file from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    /// Inode and time of the last change of its state, which no program can set back.
    #[cfg(unix)]
    change: (u64, i64, i64),
}

impl Stamp {
    /// The stamp of the file that is there now; `None` if it cannot be reached.
    pub fn of(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|metadata| Self::new(&metadata))
    }

    fn new(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            modified: metadata.modified().ok(),
            bytes: metadata.len(),
            #[cfg(unix)]
            change: (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_new_version_has_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(Stamp::of(&path), None);
        std::fs::write(&path, "1").unwrap();
        let first = Stamp::of(&path);
        assert!(first.is_some() && first == Stamp::of(&path));
        // Another file of the same length and time in its place.
        let other = folder.path().join("other");
        std::fs::write(&other, "2").unwrap();
        let time = path.metadata().unwrap().modified().unwrap();
        let file = std::fs::File::options().write(true).open(&other).unwrap();
        file.set_modified(time).unwrap();
        #[cfg(unix)]
        {
            std::fs::rename(&other, &path).unwrap();
            assert_ne!(first, Stamp::of(&path));
        }
        std::fs::write(&path, "22").unwrap();
        assert_ne!(first, Stamp::of(&path));
    }
}
