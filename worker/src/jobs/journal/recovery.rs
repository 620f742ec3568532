//! Reading what earlier processes left, one job at a time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::contract::{JournalError, Recovered};
use super::files;
use super::folder::{Folder, Suffix};
use super::known::Begun;

/// Most bytes of one file: the largest tensors or state that a worker takes, and their form.
const MAX_FILE_BYTES: u64 = (1 << 30) + (64 << 20);

/// Most bytes of a file's beginning that its metadata may take.
const MAX_METADATA_BYTES: u64 = 1 << 20;

fn read(path: &Path) -> Result<Vec<u8>, JournalError> {
    let io = |source| JournalError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() > MAX_FILE_BYTES {
        return Err(JournalError::Damaged("it is larger than any such file"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// Reports a file that cannot be used. A damaged one is put aside. One that cannot be read at
/// present, or that another version of this program has written, stays where it is.
fn report(folder: &Folder, path: &Path, error: &JournalError) {
    tracing::warn!(path = %path.display(), %error, "a file of the state folder is left out");
    if matches!(error, JournalError::Damaged(_)) {
        folder.put_aside(path);
    }
}

/// Names of the jobs in a folder, in the order of their submission.
pub fn names(folder: &Folder) -> Vec<String> {
    let ends = folder.all(Suffix::End);
    let paths: BTreeSet<_> = folder.all(Suffix::Job).into_iter().chain(ends).collect();
    let mut numbered = BTreeSet::new();
    for path in paths {
        let number = File::open(&path)
            .ok()
            .and_then(|file| files::read_number(file.take(MAX_METADATA_BYTES)));
        let name = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(name) = name {
            // A file without a number is found out when it is read.
            numbered.insert((number.unwrap_or(u64::MAX), name.to_owned()));
        }
    }
    let mut names: Vec<String> = Vec::with_capacity(numbered.len());
    for (_, name) in numbered {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Reads a file, if it is there and whole and its content belongs to its name.
fn whole<T>(
    folder: &Folder,
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, JournalError>,
    is_its: impl FnOnce(&T) -> bool,
) -> Option<T> {
    if !path.exists() {
        return None;
    }
    let error = match read(path).and_then(|bytes| parse(&bytes)) {
        Ok(content) if is_its(&content) => return Some(content),
        Ok(_) => JournalError::Damaged("its name is that of another job"),
        Err(error) => error,
    };
    report(folder, path, &error);
    None
}

/// Reads the job of this name, and how often it was begun.
pub fn job(folder: &Folder, name: &str) -> Option<(Recovered, Begun)> {
    let path = |suffix| folder.named(name, suffix);
    let end = path(Suffix::End);
    let ended = whole(folder, &end, files::read_end, |(record, ..)| {
        folder.path(record.key, Suffix::End) == end
    });
    if let Some((record, at, how)) = ended {
        // The process ended between writing the end and removing the rest.
        let rest = [Suffix::Job, Suffix::State, Suffix::Begun];
        if let Err(error) = folder.remove(record.key, &rest) {
            report(folder, &end, &error);
        }
        let job = Recovered {
            record,
            tensors: Vec::new(),
            state: None,
            begun: 0,
            end: Some((at, how)),
        };
        return Some((job, Begun::default()));
    }
    let file = path(Suffix::Job);
    let (record, tensors) = whole(folder, &file, files::read_job, |(record, _)| {
        folder.path(record.key, Suffix::Job) == file
    })?;
    let state = whole(
        folder,
        &path(Suffix::State),
        files::read_state,
        |(key, ..)| *key == record.key,
    );
    let state = state.map(|(_, step, bytes)| (step, bytes));
    let step = state.as_ref().map_or(0, |(step, _)| *step);
    let text = fs::read_to_string(path(Suffix::Begun)).ok();
    let begun = text.and_then(|text| Begun::parse(&text));
    let begun = begun.unwrap_or_default().since(step);
    let job = Recovered {
        record,
        tensors,
        state,
        begun: begun.count,
        end: None,
    };
    Some((job, begun))
}
