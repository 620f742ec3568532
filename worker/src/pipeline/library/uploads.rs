//! Files that clients upload.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::folders::names;
use crate::pipeline::error::{Error, Result};

/// Most bytes of all uploaded files together.
const MAX_ALL: u64 = 64 << 30;

/// A file that is arriving. It is removed when dropped, unless it was kept.
#[derive(Debug)]
pub struct NewAdapter {
    path: PathBuf,
    file: File,
    hash: Sha256,
    left: u64,
}

impl NewAdapter {
    /// Begins a file of `length` bytes in a folder.
    ///
    /// # Errors
    /// The folder has no room or cannot be written to.
    pub(super) fn begin(folder: &Path, length: u64) -> Result<Self> {
        let sizes = names(folder).into_iter();
        let sizes = sizes.filter_map(|name| Some(fs::metadata(folder.join(name)).ok()?.len()));
        let held = sizes.sum::<u64>();
        if held.saturating_add(length) > MAX_ALL {
            return Err(Error::TooLarge {
                message: format!("the uploaded adapters take {held} of {MAX_ALL} bytes"),
                hint: "Ask the operator to remove some.".into(),
            });
        }
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Hidden files are not listed.
        let path = folder.join(format!(".upload-{}-{number}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        Ok(Self {
            file: file.map_err(|error| refused(&error))?,
            path,
            hash: Sha256::new(),
            left: length,
        })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// There are more than announced, or they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| Error::invalid("the file is longer than announced", ""))?;
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(|error| refused(&error))
    }

    /// Ends the file. Returns its path and its hash in hexadecimal digits.
    ///
    /// # Errors
    /// Bytes are missing, or cannot be written.
    pub(super) fn end(&mut self) -> Result<(&Path, String)> {
        if self.left > 0 {
            return Err(Error::invalid(
                format!("the file is {} bytes shorter than announced", self.left),
                "Send it again.",
            ));
        }
        self.file.sync_all().map_err(|error| refused(&error))?;
        let hash = self.hash.finalize_reset();
        let digits = hash.iter().map(|byte| format!("{byte:02x}"));
        Ok((&self.path, digits.collect()))
    }
}

impl Drop for NewAdapter {
    fn drop(&mut self) {
        // A kept file was renamed, and is not there any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// The refusal of a file that cannot be written.
pub(super) fn refused(error: &std::io::Error) -> Error {
    Error::invalid(
        format!("the uploaded file cannot be written: {error}"),
        "Ask the operator of the worker.",
    )
}
