//! Finding, listing and checking adapters by name.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ovis_protocol::{is_adapter_name, shown, AdapterInfo, AdapterUse};

use super::described::{describe, Described};
use super::folders::names;
use super::model::AdaptedCheckpoint;
use super::uploads::{refused, NewAdapter};
use crate::checkpoint::AdapterError;
use crate::pipeline::adapters::{AdaptedPart, Size, Stamp};
use crate::pipeline::error::{Error, Result};

/// What is wrong with an adapter that a job names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    File,
    /// Its file has other contents than the job wants.
    Hash,
}

/// A refusal of an uploaded file, with the name that it would get in place of its path.
fn refused_name(error: &AdapterError, path: &Path, name: &str) -> String {
    error.to_string().replace(&path.display().to_string(), name)
}

/// What is known of a file.
type Known = (
    Stamp,
    std::result::Result<Arc<Described>, Arc<AdapterError>>,
);

/// The adapters in the operator's folders. Any thread may use it; what it reads of a file is kept
/// until the file changes.
#[derive(Debug)]
pub struct AdapterLibrary {
    folders: Vec<PathBuf>,
    model: AdaptedCheckpoint,
    strict: bool,
    /// Where uploaded files go: the last of the folders.
    uploads: Option<PathBuf>,
    known: Mutex<HashMap<PathBuf, Known>>,
}

impl AdapterLibrary {
    /// The adapters below some folders, of which the first that has a name counts. If it is
    /// `strict`, every tensor of an adapter must change something in the model.
    pub fn new(folders: Vec<PathBuf>, model: AdaptedCheckpoint, strict: bool) -> Self {
        Self {
            folders,
            model,
            strict,
            uploads: None,
            known: Mutex::default(),
        }
    }

    /// Takes uploads into a folder, which is also the last one that is searched.
    pub fn with_uploads(mut self, folder: PathBuf) -> Self {
        self.folders.push(folder.clone());
        self.uploads = Some(folder);
        self
    }

    /// Whether clients may upload adapters.
    pub fn takes_uploads(&self) -> bool {
        self.uploads.is_some()
    }

    /// Begins to receive a file of `length` bytes.
    ///
    /// # Errors
    /// Uploads are not taken, or there is no room for it.
    pub fn receive(&self, length: u64) -> Result<NewAdapter> {
        match &self.uploads {
            Some(folder) => NewAdapter::begin(folder, length),
            None => Err(Error::invalid("this worker takes no adapters", "")),
        }
    }

    /// Keeps a file that has arrived whole under its hash, if it is an adapter that fits the model.
    ///
    /// # Errors
    /// It is no such adapter, or was not received whole.
    pub fn keep(&self, mut file: NewAdapter) -> Result<AdapterInfo> {
        let (path, hash) = file.end()?;
        let name = format!("{hash}.safetensors");
        let described = describe(&name, path, &self.model, self.strict)
            .map_err(|error| Error::invalid(refused_name(&error, path, &name), error.hint()))?;
        let folder = self.uploads.as_deref().unwrap_or(Path::new(""));
        fs::rename(path, folder.join(&name)).map_err(|error| refused(&error))?;
        Ok(described.info)
    }

    /// Whether every tensor of an adapter must change something.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// All adapters that fit the model, by name. Files are read and hashed the first time, which
    /// can take a while.
    pub fn list(&self) -> Vec<AdapterInfo> {
        let mut listed: Vec<AdapterInfo> = Vec::new();
        for folder in &self.folders {
            for name in names(folder) {
                if listed.iter().any(|other| other.name == name) {
                    continue;
                }
                if let Ok(found) = self.described(&name, &folder.join(&name)) {
                    listed.push(found.info.clone());
                }
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        listed
    }

    /// The file of an adapter that a job names, if it is there with the contents that the job wants
    /// and fits the model.
    ///
    /// # Errors
    /// [`Error::MissingAdapter`] if it is not there or has other contents; [`Error::Invalid`] if
    /// it does not fit.
    pub fn find(&self, wanted: &AdapterUse) -> Result<PathBuf> {
        let path = self
            .path(&wanted.name)
            .ok_or_else(|| self.missing(wanted, Missing::File))?;
        let described = self.described(&wanted.name, &path)?;
        match wanted.hash {
            Some(hash) if hash != described.info.hash => Err(self.missing(wanted, Missing::Hash)),
            _ => Ok(path),
        }
    }

    /// The hashes of adapters that a job names, as one text that differs wherever they do.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn identity(&self, wanted: &[AdapterUse]) -> Result<String> {
        let hash = |wanted: &AdapterUse| {
            let path = self.find(wanted)?;
            let described = self.described(&wanted.name, &path)?;
            let digits = described.info.hash.iter().map(|byte| format!("{byte:02x}"));
            Ok(digits.collect::<String>())
        };
        let hashes: Vec<String> = wanted.iter().map(hash).collect::<Result<_>>()?;
        Ok(hashes.join(" "))
    }

    /// What adapters that a job names take on the device in one network. Those that are missing
    /// take nothing: their job fails.
    pub(in crate::pipeline) fn size(&self, wanted: &[AdapterUse], part: AdaptedPart) -> Size {
        let mut sum = Size::default();
        for adapter in wanted {
            let path = self.path(&adapter.name);
            let found = path.and_then(|path| self.described(&adapter.name, &path).ok());
            let Some(found) = found else { continue };
            let size = match part {
                AdaptedPart::Transformer => found.transformer,
                AdaptedPart::TextEncoder => found.text_encoder,
            };
            sum = sum.plus(size);
        }
        sum
    }

    /// The file of a name.
    fn path(&self, name: &str) -> Option<PathBuf> {
        if !is_adapter_name(name) {
            return None;
        }
        let mut paths = self.folders.iter().map(|folder| folder.join(name));
        paths.find(|path| path.is_file())
    }

    fn described(&self, name: &str, path: &Path) -> Result<Arc<Described>> {
        let stamp = Stamp::of(path);
        let found = self.locked(|known| {
            let (then, found) = known.get(path)?;
            (*then == stamp).then(|| found.clone())
        });
        let found = match found {
            Some(found) => found,
            None => {
                let read = describe(name, path, &self.model, self.strict);
                let read = read.map(Arc::new).map_err(Arc::new);
                let entry = (stamp, read.clone());
                self.locked(|known| known.insert(path.to_owned(), entry));
                read
            }
        };
        found.map_err(|error| Error::invalid(error.to_string(), error.hint()))
    }

    fn locked<T>(&self, work: impl FnOnce(&mut HashMap<PathBuf, Known>) -> T) -> T {
        // The map is whole between any two statements, so a panic elsewhere leaves it usable.
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn missing(&self, wanted: &AdapterUse, why: Missing) -> Error {
        let name = shown(&wanted.name);
        let folders: Vec<String> = self
            .folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        let (message, hint) = match (why, &folders[..]) {
            (Missing::File, []) => (
                format!("missing adapter: `{name}`, and this worker has no folder of adapters"),
                "Start the worker with --lora-dir FOLDER, or remove the adapter from the job.".into(),
            ),
            (Missing::File, folders) => (
                format!("missing adapter: `{name}`"),
                format!("Put the file into {} on the worker's machine, or remove it from the job.", folders.join(" or ")),
            ),
            (Missing::Hash, _) => (
                format!("missing adapter: `{name}` of the job; the worker has another file of this name"),
                "Choose the adapter again to use the worker's file, or put the other file beside it under another name.".into(),
            ),
        };
        Error::MissingAdapter { message, hint }
    }
}
