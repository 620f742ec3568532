//! Reading arbitrary bytes as files of the journal. Only for the fuzz targets in `tests/fuzz`: it
//! has no place in the worker's interface and may change at any time.

use sha2::{Digest, Sha256};

use super::files;
use super::sections::{self, Kind};

/// What bytes can be read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// No file of the journal.
    Nothing,
    /// A job's file.
    Job,
    /// A state's file.
    State,
    /// An end's file.
    End,
}

/// Reads a file of one kind and writes it; `None` if it is of another.
type Again = fn(&[u8]) -> Option<Vec<u8>>;

/// Reads `content` as a file that ends with the digest of it, which no mutation would hit, and
/// says what it is.
///
/// # Panics
/// If it is of two kinds, or what was read and written is not read and written again the same.
pub fn read(content: &[u8]) -> Read {
    let mut bytes = content.to_vec();
    bytes.extend(Sha256::digest(content));
    let _ = files::read_number(&bytes[..]);
    let forms: [(Read, Again); 3] = [
        (Read::Job, job_again),
        (Read::State, state_again),
        (Read::End, end_again),
    ];
    let mut kinds = Vec::new();
    for (kind, again) in forms {
        if let Some(written) = again(&bytes) {
            // The bytes are compared, as a request may have a NaN.
            assert_eq!(again(&written), Some(written), "{kind:?}");
            kinds.push(kind);
        }
    }
    assert!(kinds.len() <= 1, "a file is {kinds:?}");
    kinds.pop().unwrap_or(Read::Nothing)
}

fn job_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let (record, tensors) = files::read_job(bytes).ok()?;
    let (headers, mut sections): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
    let (metadata, submit) = files::job(&record, headers).expect("a job is written again");
    sections.insert(0, submit);
    Some(written(Kind::Job, &metadata, &sections))
}

fn state_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let (key, step, state) = files::read_state(bytes).ok()?;
    let metadata = files::state(key, step).expect("a state is written again");
    Some(written(Kind::State, &metadata, &[state]))
}

fn end_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let (record, ended, end) = files::read_end(bytes).ok()?;
    let content = files::end(&record, ended, &end).expect("an end is written again");
    Some(written(content.kind, &content.metadata, &content.sections))
}

fn written(kind: Kind, metadata: &[u8], sections: &[Vec<u8>]) -> Vec<u8> {
    let sections: Vec<_> = sections.iter().map(|section| &section[..]).collect();
    let mut bytes = Vec::new();
    sections::write(&mut bytes, kind, metadata, &sections).expect("memory takes every byte");
    bytes
}
