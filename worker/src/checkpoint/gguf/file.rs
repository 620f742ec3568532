//! One memory-mapped GGUF file.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::super::error::WeightsError;
use super::super::mapped::MappedFile;
use super::super::source::{TensorEntry, TensorSource};
use super::header::{self, Header};
use super::writer::MAGIC;

/// A GGUF file whose header has been checked against its length.
#[derive(Debug)]
pub struct GgufFile {
    file: Arc<MappedFile>,
    header: Header,
}

impl GgufFile {
    /// Whether a file's first bytes are GGUF's.
    pub fn is_one(file: &[u8]) -> bool {
        file.starts_with(MAGIC)
    }

    /// Reads the header of a mapped file.
    ///
    /// # Errors
    /// The version is not read, the header contradicts itself, or the file is truncated.
    pub fn new(file: MappedFile) -> Result<Self, WeightsError> {
        Ok(Self {
            header: header::parse(file.path(), file.bytes())?,
            file: Arc::new(file),
        })
    }
}

impl TensorSource for GgufFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.header.tensors.keys().map(String::as_str))
    }

    fn entry(&self, name: &str) -> Option<&TensorEntry> {
        self.header.tensors.get(name)
    }

    fn bytes(
        &self,
        entry: &TensorEntry,
        rows: Range<usize>,
    ) -> Result<Cow<'_, [u8]>, WeightsError> {
        let range = entry.checked_row_bytes(self.path(), rows)?;
        Ok(Cow::Borrowed(&self.file.bytes()[range]))
    }

    fn file(&self) -> Option<&Arc<MappedFile>> {
        Some(&self.file)
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.header.numbers.get(key).copied()
    }
}
