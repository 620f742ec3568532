//! Lists folders and opens files.
//!
//! Names are not trusted: pipes and devices are never opened, links are followed but no
//! folder is visited twice, and files that an operating system leaves beside others are
//! skipped.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::WeightsError;
use super::foreign::{Foreign, START};

/// A file or folder that a search found and did not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file or folder.
    pub path: PathBuf,
    /// The reason, as a sentence.
    pub reason: String,
}

/// Metadata of a file or folder, with links followed.
///
/// # Errors
/// [`WeightsError::DeadLink`] for a link to nothing, [`WeightsError::Unreadable`] if the path
/// does not exist or may not be accessed.
pub(super) fn metadata(path: &Path) -> Result<Metadata, WeightsError> {
    fs::metadata(path).map_err(|error| match fs::read_link(path) {
        Ok(target) if error.kind() == io::ErrorKind::NotFound => WeightsError::DeadLink {
            file: path.to_owned(),
            target,
        },
        _ => unreadable(path, &error),
    })
}

/// Opens a regular file for reading. Anything else is refused: a pipe would block, and a
/// device has no end.
///
/// # Errors
/// [`WeightsError::NotAFile`], or as [`metadata`].
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

/// Format of a file by its first bytes; `None` where it cannot be read.
pub(super) fn format_of(path: &Path) -> Option<Foreign> {
    let mut start = Vec::with_capacity(START);
    let file = open_file(path).ok()?;
    file.take(START as u64).read_to_end(&mut start).ok()?;
    Some(Foreign::of(&start))
}

/// Reads a small text file as UTF-8, without the byte-order mark that Windows programs
/// write.
///
/// # Errors
/// [`WeightsError::Json`] if it is larger than `max_bytes`, of another format, or not UTF-8;
/// or as [`open_file`].
pub(super) fn read_text(path: &Path, max_bytes: u64) -> Result<String, WeightsError> {
    let unusable = |reason: String| WeightsError::Json {
        file: path.to_owned(),
        reason,
    };
    let mut bytes = Vec::new();
    open_file(path)?
        .take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > max_bytes {
        return Err(unusable(format!("it is larger than {max_bytes} bytes")));
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

/// The refusal of a path that the operating system does not open.
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

/// The folder that contains a file.
pub(super) fn around(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Last component of a path, for comparisons and messages.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// A file's extension in lower case, without the dot.
pub(super) fn extension_of(path: &Path) -> String {
    path.extension()
        .map(|extension| extension.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}

/// Whether a file's extension says safetensors. ComfyUI accepts both spellings.
pub(super) fn is_safetensors(path: &Path) -> bool {
    matches!(extension_of(path).as_str(), "safetensors" | "sft")
}

/// Whether a file's extension says GGUF.
pub(super) fn is_gguf(path: &Path) -> bool {
    extension_of(path) == "gguf"
}

/// Whether a file's extension is that of a weight format that is read.
pub(super) fn is_weights(path: &Path) -> bool {
    is_safetensors(path) || is_gguf(path)
}

/// Whether a file's extension is that of a weight format that is not read.
pub(super) fn is_foreign_weights(path: &Path) -> bool {
    matches!(extension_of(path).as_str(), "bin" | "pt" | "pth" | "ckpt")
}

/// Whether a file's extension is that of an unfinished download.
pub(super) fn is_unfinished(path: &Path) -> bool {
    matches!(
        extension_of(path).as_str(),
        "incomplete" | "part" | "partial" | "crdownload" | "download" | "aria2" | "tmp"
    )
}

/// Whether this is metadata that macOS left beside a file; such names start with `._`.
fn is_apple_double(path: &Path) -> bool {
    name_of(path).starts_with("._")
}

/// Whether a folder is hidden or a system's own.
fn is_private(path: &Path) -> bool {
    let name = name_of(path);
    name.starts_with('.') || name == "__MACOSX" || name == "$RECYCLE.BIN"
}

/// Contents of a folder, sorted.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files, and links to nothing.
    pub files: Vec<PathBuf>,
    /// Folders.
    pub folders: Vec<PathBuf>,
}

/// Lists a folder, without pipes, devices and macOS's metadata.
///
/// # Errors
/// [`WeightsError::Unreadable`] if the folder cannot be listed.
pub(super) fn list(folder: &Path) -> Result<Listing, WeightsError> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        if is_apple_double(&path) {
            continue;
        }
        match metadata(&path) {
            Ok(found) if found.is_dir() => listing.folders.push(path),
            Ok(found) if found.is_file() => listing.files.push(path),
            // Opening it will report where the link leads.
            Err(WeightsError::DeadLink { .. }) => listing.files.push(path),
            _ => {}
        }
    }
    listing.files.sort();
    listing.folders.sort();
    Ok(listing)
}

/// A search through folders and those below them.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Each folder with its contents, the topmost first.
    pub folders: Vec<(PathBuf, Listing)>,
    /// Folders that could not be listed.
    pub skipped: Vec<Skipped>,
    visited: BTreeSet<PathBuf>,
}

impl Walk {
    /// Adds a folder and those below it, `depth` levels in all. A folder that does not exist
    /// is skipped, and one that several links lead to is added once.
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

/// The first names in a folder, as a clause: `it has a, b and 3 more`.
pub(super) fn seen(folder: &Path) -> String {
    const MAX_NAMES: usize = 5;
    let Ok(listing) = list(folder) else {
        return "it cannot be listed".into();
    };
    let folders = listing.folders.iter().map(|path| name_of(path) + "/");
    let files = listing.files.iter().map(|path| name_of(path));
    let names: Vec<_> = folders.chain(files).collect();
    let first = names.iter().take(MAX_NAMES).map(|name| format!("`{name}`"));
    let first = first.collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "it is empty".into(),
        n if n > MAX_NAMES => format!("it has {first} and {} more", n - MAX_NAMES),
        _ => format!("it has {first}"),
    }
}
