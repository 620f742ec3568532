//! The form of every file: metadata, sections of bytes, a digest over all.
//!
//! ```text
//! magic       8 bytes   "OVISJRNL"
//! version     u32       of this form and of what the sections mean
//! kind        u32       job, state or end
//! metadata    u64 length, JSON
//! sections    u32 count, then for each: u64 length, bytes
//! digest      32 bytes  SHA-256 of everything before
//! ```
//!
//! All numbers are little-endian. The digest is checked before anything else is read, so a torn
//! or damaged file is known as such; every length is nevertheless checked against the file's.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::contract::JournalError;

const MAGIC: &[u8; 8] = b"OVISJRNL";
const VERSION: u32 = 1;
const DIGEST_BYTES: usize = 32;

/// Most sections of a file: a request, and as many tensors as a message may have.
const MAX_SECTIONS: u32 = 1 + ovis_protocol::limits::MAX_TENSORS as u32;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An accepted job.
    Job = 1,
    /// A denoise state.
    State = 2,
    /// How a job ended.
    End = 3,
}

/// Writes to a file and to a digest.
struct Digesting<W> {
    out: W,
    hasher: Sha256,
}

impl<W: Write> Digesting<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }
}

/// Bytes of a file with this metadata and these sections.
pub fn file_len(metadata: usize, sections: &[&[u8]]) -> u64 {
    let fixed = MAGIC.len() + 4 + 4 + 8 + 4 + DIGEST_BYTES;
    let bytes: usize = sections.iter().map(|section| 8 + section.len()).sum();
    (fixed + metadata + bytes) as u64
}

/// Metadata as it is written.
///
/// # Errors
/// A value has no JSON form.
pub fn metadata(value: &impl Serialize) -> Result<Vec<u8>, JournalError> {
    serde_json::to_vec(value).map_err(|error| JournalError::Unwritable(error.to_string()))
}

/// Writes a file.
///
/// # Errors
/// `out` cannot be written.
pub fn write(out: impl Write, kind: Kind, metadata: &[u8], sections: &[&[u8]]) -> io::Result<()> {
    let hasher = Sha256::new();
    let mut file = Digesting { out, hasher };
    file.put(MAGIC)?;
    file.put(&VERSION.to_le_bytes())?;
    file.put(&(kind as u32).to_le_bytes())?;
    file.put(&(metadata.len() as u64).to_le_bytes())?;
    file.put(metadata)?;
    file.put(&(sections.len() as u32).to_le_bytes())?;
    for section in sections {
        file.put(&(section.len() as u64).to_le_bytes())?;
        file.put(section)?;
    }
    let digest = file.hasher.finalize();
    file.out.write_all(&digest)?;
    file.out.flush()
}

/// What is left of a file.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: u64) -> Result<&'a [u8], JournalError> {
        let short = JournalError::Damaged("a length goes beyond the file's end");
        let split = usize::try_from(bytes)
            .ok()
            .and_then(|bytes| self.0.split_at_checked(bytes));
        let (taken, rest) = split.ok_or(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], JournalError> {
        let mut word = [0; N];
        word.copy_from_slice(self.take(N as u64)?);
        Ok(word)
    }
}

/// Reads the metadata alone, without checking the digest.
pub fn read_metadata<M: DeserializeOwned>(mut file: impl Read) -> Option<M> {
    let mut beginning = [0; 24];
    file.read_exact(&mut beginning).ok()?;
    let length = u64::from_le_bytes(beginning[16..].try_into().ok()?);
    let mut metadata = Vec::new();
    file.take(length).read_to_end(&mut metadata).ok()?;
    serde_json::from_slice(&metadata).ok()
}

/// Reads a file of this kind: its metadata, and its sections.
///
/// # Errors
/// `Damaged` for anything that [`write()`] has not written.
pub fn read<M: DeserializeOwned>(
    bytes: &[u8],
    kind: Kind,
) -> Result<(M, Vec<&[u8]>), JournalError> {
    let damaged = JournalError::Damaged;
    let split = bytes.len().checked_sub(DIGEST_BYTES);
    let (content, digest) = bytes.split_at(split.ok_or(damaged("it is too short"))?);
    if !content.starts_with(MAGIC) {
        return Err(damaged("it does not begin as one"));
    }
    if Sha256::digest(content).as_slice() != digest {
        return Err(damaged("its digest differs from its content's"));
    }
    let mut rest = Rest(&content[MAGIC.len()..]);
    if u32::from_le_bytes(rest.word()?) != VERSION {
        return Err(JournalError::OtherVersion);
    }
    if u32::from_le_bytes(rest.word()?) != kind as u32 {
        return Err(damaged("it is of another kind than its name says"));
    }
    let length = u64::from_le_bytes(rest.word()?);
    let metadata = serde_json::from_slice(rest.take(length)?)
        .map_err(|_| damaged("its metadata cannot be read"))?;
    let count = u32::from_le_bytes(rest.word()?);
    if count > MAX_SECTIONS {
        return Err(damaged("it has too many sections"));
    }
    let mut sections = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let length = u64::from_le_bytes(rest.word()?);
        sections.push(rest.take(length)?);
    }
    match rest.0 {
        [] => Ok((metadata, sections)),
        _ => Err(damaged("bytes follow its last section")),
    }
}
