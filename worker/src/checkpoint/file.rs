//! One memory-mapped file of tensors, safetensors or GGUF.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::error::WeightsError;
use super::gguf;
use super::header;
use super::mapped::MappedFile;
use super::source::{TensorEntry, TensorSource};

/// A file whose header has been checked against its length.
#[derive(Debug)]
pub(super) struct TensorFile {
    file: Arc<MappedFile>,
    tensors: BTreeMap<String, TensorEntry>,
    /// Numbers of a GGUF file's metadata, by key.
    numbers: BTreeMap<String, f64>,
}

impl TensorFile {
    /// Reads the header of a mapped safetensors file.
    ///
    /// # Errors
    /// The file is not safetensors, is truncated, or its header contradicts itself.
    pub fn safetensors(file: MappedFile) -> Result<Self, WeightsError> {
        Ok(Self {
            tensors: header::parse(file.path(), file.bytes())?,
            numbers: BTreeMap::new(),
            file: Arc::new(file),
        })
    }

    /// Reads the header of a mapped GGUF file.
    ///
    /// # Errors
    /// The version is not read, the header contradicts itself, or the file is truncated.
    fn gguf(file: MappedFile) -> Result<Self, WeightsError> {
        let gguf::Header { tensors, numbers } = gguf::parse(file.path(), file.bytes())?;
        Ok(Self {
            tensors,
            numbers,
            file: Arc::new(file),
        })
    }

    /// The texts that the writer of a safetensors file put into the header's `__metadata__`.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        header::metadata(self.file.bytes())
    }
}

/// Maps a file of any format that is read, and reads its header. Its first bytes say which
/// format it is, whatever its name.
///
/// # Errors
/// The file cannot be opened, is of another format, is truncated, or its header contradicts
/// itself.
pub(super) fn open(path: &Path) -> Result<Arc<dyn TensorSource>, WeightsError> {
    let file = MappedFile::open(path)?;
    let opened = match file.bytes().starts_with(gguf::MAGIC) {
        true => TensorFile::gguf(file),
        false => TensorFile::safetensors(file),
    };
    Ok(Arc::new(opened?))
}

impl TensorSource for TensorFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors.keys().map(String::as_str))
    }

    fn entry(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.get(name)
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
        self.numbers.get(key).copied()
    }

    fn text(&self, key: &str) -> Option<String> {
        self.metadata().remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::StoredType;
    use super::super::test_files::{write, Stored};
    use super::*;

    fn opened(path: &Path) -> TensorFile {
        TensorFile::safetensors(MappedFile::open(path).unwrap()).unwrap()
    }

    #[test]
    fn hands_out_the_bytes_of_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        write(
            &path,
            &[
                Stored::f32("b", &[3, 2], &[0., 1., 2., 3., 4., 5.]),
                Stored::f32("a", &[], &[7.]),
            ],
        );
        let file = opened(&path);
        assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b"]);
        let matrix = file.entry("b").unwrap();
        assert_eq!(
            (&matrix.stored, &matrix.shape[..]),
            (&StoredType::F32, &[3, 2][..])
        );
        let rows = file.bytes(matrix, 1..3).unwrap();
        let wanted: Vec<u8> = [2f32, 3., 4., 5.].map(f32::to_le_bytes).concat();
        assert_eq!(rows[..], wanted[..]);
        let scalar = file.bytes(file.entry("a").unwrap(), 0..1).unwrap();
        assert_eq!(scalar[..], 7f32.to_le_bytes());
        let error = file.bytes(matrix, 2..4).unwrap_err().to_string();
        assert!(error.contains("has 3 rows, not 2 to 4"), "{error}");
        assert!(file.entry("c").is_none());
    }

    #[test]
    fn keeps_its_values_after_its_pages_are_released() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        write(&path, &[Stored::f32("a", &[2], &[1., 2.])]);
        let file = opened(&path);
        let read = || {
            let bytes = file.bytes(file.entry("a").unwrap(), 0..2).unwrap();
            bytes.into_owned()
        };
        let before = read();
        file.file.release();
        assert_eq!(read(), before);
    }

    #[test]
    fn a_download_that_has_not_finished_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        write(&path, &[Stored::f32("a", &[1], &[1.])]);
        std::fs::write(folder.path().join("x.safetensors.aria2"), "").unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, WeightsError::Unfinished { .. }), "{error}");
    }
}
