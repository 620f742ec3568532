//! Looking into folders, and opening what lies there.
//!
//! Nothing here trusts a name: pipes and devices are never opened, links are followed but
//! no folder is visited twice, and what an operating system leaves beside files is nobody's.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::WeightsError;
use super::foreign::Foreign;

/// A file or folder that was found and left aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file or folder.
    pub path: PathBuf,
    /// Why, as a sentence.
    pub reason: String,
}

/// What is at a path, links followed.
///
/// # Errors
/// Nothing is, or it cannot be looked at.
pub(super) fn metadata(path: &Path) -> Result<Metadata, WeightsError> {
    fs::metadata(path).map_err(|error| match fs::read_link(path) {
        Ok(target) if error.kind() == io::ErrorKind::NotFound => WeightsError::DeadLink {
            file: path.to_owned(),
            target,
        },
        _ => unreadable(path, &error),
    })
}

/// Opens a regular file for reading. A pipe would block, and a device has no end.
///
/// # Errors
/// It is something else, or cannot be opened.
pub(super) fn open_file(path: &Path) -> Result<File, WeightsError> {
    let found = metadata(path)?;
    if !found.is_file() {
        return Err(WeightsError::NotAFile {
            file: path.to_owned(),
            what: match found.is_dir() {
                true => "a folder",
                false => "a pipe, socket or device",
            },
        });
    }
    File::open(path).map_err(|error| unreadable(path, &error))
}

/// Reads a small text file as UTF-8, without the byte-order mark that Windows programs
/// write.
///
/// # Errors
/// It cannot be read, is larger than `most` bytes, or is no UTF-8.
pub(super) fn read_text(path: &Path, most: u64) -> Result<String, WeightsError> {
    let unusable = |reason: String| WeightsError::Json {
        file: path.to_owned(),
        reason,
    };
    let mut bytes = Vec::new();
    open_file(path)?
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > most {
        return Err(unusable(format!("it is larger than {most} bytes")));
    }
    if let kind @ (Foreign::Empty
    | Foreign::Zeros
    | Foreign::LfsPointer
    | Foreign::WebPage
    | Foreign::AppleDouble) = Foreign::of(&bytes)
    {
        return Err(unusable(format!("it is {}", kind.what())));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(unusable("it is UTF-16 text, not UTF-8".into()));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8 text".into()))?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// A refusal in the operating system's words.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> WeightsError {
    WeightsError::Unreadable {
        file: path.to_owned(),
        reason: match error.kind() {
            io::ErrorKind::NotFound => "there is no such file or folder".into(),
            io::ErrorKind::PermissionDenied => "permission denied".into(),
            _ => {
                let text = error.to_string();
                let words = text.split(" (os error").next().unwrap_or_default();
                words.to_lowercase()
            }
        },
    }
}

/// The folder that a file is in.
pub(super) fn around(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A file's name, for comparing and showing.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// A file's ending in lower case, without the dot.
pub(super) fn ending_of(path: &Path) -> String {
    path.extension()
        .map(|ending| ending.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}

/// Whether a file is safetensors by its name. ComfyUI has both endings.
pub(super) fn is_safetensors(path: &Path) -> bool {
    matches!(ending_of(path).as_str(), "safetensors" | "sft")
}

/// Whether a file is by its name weights in a format that is not read.
pub(super) fn is_foreign_weights(path: &Path) -> bool {
    matches!(
        ending_of(path).as_str(),
        "gguf" | "bin" | "pt" | "pth" | "ckpt"
    )
}

/// Whether a file is by its name a download that has not ended.
pub(super) fn is_unfinished(path: &Path) -> bool {
    matches!(
        ending_of(path).as_str(),
        "incomplete" | "part" | "partial" | "crdownload" | "download" | "aria2" | "tmp"
    )
}

/// Whether an operating system left this beside somebody's files: macOS begins such names
/// with `._`.
fn is_nobodys(path: &Path) -> bool {
    name_of(path).starts_with("._")
}

/// Whether a folder holds what programs keep for themselves.
fn is_private(path: &Path) -> bool {
    let name = name_of(path);
    name.starts_with('.') || name == "__MACOSX" || name == "$RECYCLE.BIN"
}

/// What is in a folder, sorted.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files, and links to files that are not there.
    pub files: Vec<PathBuf>,
    /// Folders.
    pub folders: Vec<PathBuf>,
}

/// Lists a folder. What is neither file nor folder, and what is nobody's, is left out.
///
/// # Errors
/// The folder cannot be listed.
pub(super) fn list(folder: &Path) -> Result<Listing, WeightsError> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        if is_nobodys(&path) {
            continue;
        }
        match metadata(&path) {
            Ok(found) if found.is_dir() => listing.folders.push(path),
            Ok(found) if found.is_file() => listing.files.push(path),
            // Opening it tells what is wrong with it.
            Err(WeightsError::DeadLink { .. }) => listing.files.push(path),
            _ => {}
        }
    }
    listing.files.sort();
    listing.folders.sort();
    Ok(listing)
}

/// A folder and those below it.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Each folder with what is in it, the topmost first.
    pub folders: Vec<(PathBuf, Listing)>,
    /// Folders that could not be looked into.
    pub skipped: Vec<Skipped>,
    visited: BTreeSet<PathBuf>,
}

impl Walk {
    /// Adds a folder and those below it, to a depth; nothing when it is not there, and no
    /// folder twice, whatever links lead to it.
    pub fn add(&mut self, folder: &Path, depth: usize) {
        if depth == 0 || !folder.is_dir() {
            return;
        }
        if folder
            .canonicalize()
            .is_ok_and(|real| !self.visited.insert(real))
        {
            return;
        }
        match list(folder) {
            Ok(listing) => {
                let below = listing.folders.clone();
                self.folders.push((folder.to_owned(), listing));
                for folder in below.iter().filter(|folder| !is_private(folder)) {
                    self.add(folder, depth - 1);
                }
            }
            Err(error) => self.skipped.push(Skipped {
                path: folder.to_owned(),
                reason: error.to_string(),
            }),
        }
    }
}

/// Some of the names in a folder, as a sentence goes on: `it has a, b and 3 more`.
pub(super) fn seen(folder: &Path) -> String {
    const MOST: usize = 5;
    let Ok(listing) = list(folder) else {
        return "it cannot be listed".into();
    };
    let folders = listing.folders.iter().map(|path| name_of(path) + "/");
    let files = listing.files.iter().map(|path| name_of(path));
    let names: Vec<_> = folders.chain(files).collect();
    let first = names.iter().take(MOST).map(|name| format!("`{name}`"));
    let first = first.collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "it is empty".into(),
        n if n > MOST => format!("it has {first} and {} more", n - MOST),
        _ => format!("it has {first}"),
    }
}
