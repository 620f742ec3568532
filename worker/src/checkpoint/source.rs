//! The interface of everything that stores tensors: names, shapes, stored types, and the
//! bytes of a range of rows.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::error::WeightsError;
use super::mapped::MappedFile;
use crate::quants::{BlockType, ByteType};

/// Number format that a source stores a tensor in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoredType {
    /// IEEE 754 double precision.
    F64,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Numbers of one byte.
    Byte(ByteType),
    /// Blocks of values with scales of their own, as GGUF files have them.
    Block(BlockType),
    /// A format that weights cannot be loaded from, by the source's name for it.
    Other(String),
}

impl fmt::Display for StoredType {
    /// Writes the safetensors or ggml name of the format: `BF16`, `Q4_K`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Byte(kind) => kind.name(),
            Self::Block(kind) => kind.name(),
            Self::Other(name) => name,
        })
    }
}

/// Describes one tensor of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// Name in the source.
    pub name: String,
    /// Number format.
    pub stored: StoredType,
    /// Dimensions, outermost first. The first one counts rows; a scalar has one row.
    pub shape: Vec<usize>,
    /// Byte range within the source's data.
    pub bytes: Range<usize>,
}

impl TensorEntry {
    /// Number of rows: the first dimension, or 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Byte range of `rows` within the source's data; `None` if the tensor has fewer rows or
    /// its rows do not start at whole bytes and blocks. A vector in blocks has a value a row,
    /// and is cut between blocks only.
    pub fn row_bytes(&self, rows: &Range<usize>) -> Option<Range<usize>> {
        let (count, length) = (self.rows(), self.bytes.len());
        if rows.start > rows.end || rows.end > count {
            return None;
        }
        if count == 0 {
            return Some(self.bytes.clone());
        }
        if let StoredType::Block(kind) = self.stored {
            let row: usize = self.shape.iter().skip(1).product();
            let byte = |row_number: usize| {
                let value = row_number * row;
                let at = self.bytes.start + value / kind.values() * kind.bytes();
                value.is_multiple_of(kind.values()).then_some(at)
            };
            return Some(byte(rows.start)?..byte(rows.end)?);
        }
        let row = length / count;
        let start = self.bytes.start;
        (length % count == 0).then(|| start + rows.start * row..start + rows.end * row)
    }

    /// As [`row_bytes`](Self::row_bytes), for a source at `path`.
    ///
    /// # Errors
    /// [`WeightsError::Rows`] in place of `None`.
    pub(super) fn checked_row_bytes(
        &self,
        path: &Path,
        rows: Range<usize>,
    ) -> Result<Range<usize>, WeightsError> {
        self.row_bytes(&rows).ok_or_else(|| WeightsError::Rows {
            file: path.to_owned(),
            tensor: self.name.clone(),
            rows,
            count: self.rows(),
        })
    }
}

/// Values that follow a rule, so that a device can generate them instead of receiving their
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill<'a> {
    /// Every value is 0.
    Zeros,
    /// Every value is 1.
    Ones,
    /// Value `i` of the flattened tensor is `values[i % values.len()] * scale`.
    Repeated {
        /// The repeated values.
        values: &'a Arc<[f32]>,
        /// Factor of all values.
        scale: f64,
    },
}

/// Stores tensors by name and hands out the bytes of their rows.
///
/// Safetensors files, GGUF files and random weights implement it. A GGUF file stores a row of
/// a matrix as a whole number of blocks (a `Q8_0` row of `n` values takes `n / 32` blocks of 34
/// bytes), so a range of rows is a range of bytes there too.
pub trait TensorSource: fmt::Debug + Send + Sync {
    /// Path of the file, or a description in its place, for messages.
    fn path(&self) -> &Path;

    /// Names of all tensors, sorted.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// Describes the tensor of this name.
    fn entry(&self, name: &str) -> Option<&TensorEntry>;

    /// Bytes of some rows of one of this source's entries, in row-major order and
    /// little-endian; borrowed where the source holds them in memory or in a mapped file.
    ///
    /// # Errors
    /// [`WeightsError::Rows`] if the tensor has fewer rows, or rows that do not start at
    /// whole bytes and blocks.
    fn bytes(&self, entry: &TensorEntry, rows: Range<usize>)
        -> Result<Cow<'_, [u8]>, WeightsError>;

    /// The rule that an entry's values follow, where there is one. [`bytes`](Self::bytes)
    /// gives the same values.
    fn fill(&self, _entry: &TensorEntry) -> Option<Fill<'_>> {
        None
    }

    /// A number of the source's metadata.
    fn number(&self, _key: &str) -> Option<f64> {
        None
    }

    /// A text of the source's metadata.
    fn text(&self, _key: &str) -> Option<String> {
        None
    }

    /// The mapped file that the bytes lie in, which can be read ahead.
    fn file(&self) -> Option<&Arc<MappedFile>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_range_is_a_byte_range() {
        let entry = |shape: &[usize], length: usize| TensorEntry {
            name: "a".into(),
            stored: StoredType::F32,
            shape: shape.to_vec(),
            bytes: 100..100 + length,
        };
        let matrix = entry(&[4, 3], 48);
        assert_eq!(matrix.row_bytes(&(0..4)), Some(100..148));
        assert_eq!(matrix.row_bytes(&(1..3)), Some(112..136));
        assert_eq!(matrix.row_bytes(&(2..2)), Some(124..124));
        assert_eq!(matrix.row_bytes(&(3..5)), None);
        assert_eq!(entry(&[], 4).row_bytes(&(0..1)), Some(100..104));
        assert_eq!(entry(&[0, 3], 0).row_bytes(&(0..0)), Some(100..100));
        let blocks = |shape: &[usize], length: usize| TensorEntry {
            stored: StoredType::Block(BlockType::Q8_0),
            ..entry(shape, length)
        };
        // Two blocks of 34 bytes in each row.
        assert_eq!(blocks(&[2, 64], 136).row_bytes(&(1..2)), Some(168..236));
        let vector = blocks(&[64], 68);
        assert_eq!(vector.row_bytes(&(0..64)), Some(100..168));
        assert_eq!(vector.row_bytes(&(32..64)), Some(134..168));
        assert_eq!(vector.row_bytes(&(16..64)), None);
        // Three values of 4 bits are no whole bytes.
        assert_eq!(entry(&[2, 3], 3).row_bytes(&(1..2)), None);
    }
}
