//! Tensors of sources, and the pieces of them that a model's tensors consist of.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::coded::Coding;
use super::error::WeightsError;
use super::source::{Fill, StoredType, TensorEntry, TensorSource};
use crate::quants::BlockType;

/// One tensor of a source, with what turns its numbers into values.
#[derive(Clone, Debug)]
pub struct FileTensor {
    source: Arc<dyn TensorSource>,
    entry: TensorEntry,
    coding: Coding,
}

impl FileTensor {
    /// The source's tensor of this name, if it has one.
    pub fn of(source: &Arc<dyn TensorSource>, name: &str) -> Option<Self> {
        Some(Self {
            entry: source.entry(name)?.clone(),
            source: source.clone(),
            coding: Coding::NONE,
        })
    }

    /// The source that stores it.
    pub fn source(&self) -> &Arc<dyn TensorSource> {
        &self.source
    }

    /// Name, type, shape and size in the source.
    pub fn entry(&self) -> &TensorEntry {
        &self.entry
    }

    /// What turns the stored numbers into values.
    pub fn coding(&self) -> &Coding {
        &self.coding
    }

    /// Path of the source, for messages.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    pub(super) fn set_coding(&mut self, coding: Coding) {
        self.coding = coding;
    }
}

/// A range of rows of a tensor in a file.
#[derive(Clone, Debug)]
pub struct Piece {
    tensor: FileTensor,
    rows: Range<usize>,
}

impl Piece {
    pub(super) fn new(tensor: FileTensor, rows: Range<usize>) -> Self {
        Self { tensor, rows }
    }

    /// The tensor in the file.
    pub fn tensor(&self) -> &FileTensor {
        &self.tensor
    }

    /// Rows of that tensor which belong to the piece.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Number format of the bytes.
    pub fn stored(&self) -> &StoredType {
        &self.tensor.entry.stored
    }

    /// Size in the file.
    pub fn byte_count(&self) -> u64 {
        let range = self.tensor.entry.row_bytes(&self.rows);
        range.map_or(0, |range| range.len() as u64)
    }

    /// Bytes of the rows.
    ///
    /// # Errors
    /// As [`TensorSource::bytes`].
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>, WeightsError> {
        let FileTensor { source, entry, .. } = &self.tensor;
        source.bytes(entry, self.rows())
    }

    /// The rule that the values follow, if there is one and the piece is the whole tensor.
    pub fn fill(&self) -> Option<Fill<'_>> {
        let FileTensor { source, entry, .. } = &self.tensor;
        let fill = source.fill(entry)?;
        (self.rows == (0..entry.rows())).then_some(fill)
    }
}

/// A tensor of a model: its shape, and the pieces that make it up.
#[derive(Debug)]
pub struct ModelTensor {
    /// Dimensions that the model wants.
    pub shape: Vec<usize>,
    /// Its rows from the first to the last. A piece has the dimensions of `shape` after the
    /// first, except for a trailing 1 x 1 of a convolution that the model uses as a matrix.
    pub pieces: Vec<Piece>,
}

impl ModelTensor {
    /// The block type of the whole tensor: its pieces' [`bytes`](Piece::bytes), one after the
    /// other, are then its rows in blocks of this type. `None` if a piece is stored otherwise.
    pub fn block_type(&self) -> Option<BlockType> {
        let mut kinds = self.pieces.iter().map(|piece| match piece.stored() {
            StoredType::Block(kind) => Some(*kind),
            _ => None,
        });
        let first = kinds.next()??;
        kinds.all(|kind| kind == Some(first)).then_some(first)
    }

    /// Size in the files.
    pub fn byte_count(&self) -> u64 {
        self.pieces.iter().map(Piece::byte_count).sum()
    }
}
