//! A file of tokens on the disk, read again when it changes.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::lines::{self, LineError};
use super::table::Table;
use crate::server::stamp::Stamp;

/// Most bytes of a file of tokens.
const MAX_BYTES: u64 = 1 << 20;

/// Why a file of tokens cannot be used. No message shows a token.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file cannot be read.
    #[error("the file of tokens `{}` cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others may read or change the file.
    #[error(
        "the file of tokens `{}` has the permissions {mode:03o}, with which others can read or change it",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is too large.
    #[error("the file of tokens `{}` has more than {MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file has no token.
    #[error("the file of tokens `{}` has no token", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line is wrong.
    #[error("line {line} of the file of tokens `{}` is wrong: {error}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        error: LineError,
    },
}

impl TokensError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable { .. } => "Give a file that this user can read, in UTF-8.".into(),
            Self::Open { path, .. } => format!("Close it: chmod 600 {}", path.display()),
            Self::TooLarge { .. } | Self::Empty { .. } | Self::Line { .. } => {
                "One token a line: NAME ROLES TOKEN, such as `studio submit,observe TEXT`; \
                 `#` begins a comment."
                    .into()
            }
        }
    }
}

/// A file of tokens, and which version of it was read.
pub struct TokenFile {
    path: PathBuf,
    /// `None` while the file cannot be reached.
    stamp: Option<Stamp>,
}

impl TokenFile {
    /// Reads the file.
    ///
    /// # Errors
    /// The file cannot be read, others can read or change it, or it is not a list of tokens.
    pub fn open(path: &Path) -> Result<(Self, Table), TokensError> {
        let mut file = Self {
            path: path.to_owned(),
            stamp: None,
        };
        file.stamp = Stamp::of(path);
        let table = file.read()?;
        Ok((file, table))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again if it has changed since it was last read, well or not. `None` if
    /// it has not, or if it is changing at the moment: then the next call reads it.
    pub fn reread(&mut self) -> Option<Result<Table, TokensError>> {
        let stamp = Stamp::of(&self.path);
        if stamp == self.stamp {
            return None;
        }
        let result = self.read();
        if Stamp::of(&self.path) != stamp {
            return None;
        }
        self.stamp = stamp;
        Some(result)
    }

    fn read(&self) -> Result<Table, TokensError> {
        let path = || self.path.clone();
        let unreadable = |error| TokensError::Unreadable {
            path: path(),
            error,
        };
        // Opening a pipe would wait for its writer.
        if !self.path.metadata().map_err(unreadable)?.is_file() {
            return Err(unreadable(io::Error::other("it is not a regular file")));
        }
        let file = File::open(&self.path).map_err(unreadable)?;
        if let Some(mode) = open_mode(&file.metadata().map_err(unreadable)?) {
            return Err(TokensError::Open { path: path(), mode });
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(TokensError::TooLarge { path: path() });
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| unreadable(io::Error::other("it is not UTF-8 text")))?;
        let table = lines::read(&text).map_err(|(line, error)| TokensError::Line {
            path: path(),
            line,
            error,
        })?;
        match table.entries() {
            [] => Err(TokensError::Empty { path: path() }),
            _ => Ok(table),
        }
    }
}

/// The permissions of a file that users outside its group can read, or that others than its
/// owner can change.
#[cfg(unix)]
fn open_mode(metadata: &Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o026 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn open_mode(_: &Metadata) -> Option<u32> {
    None
}
