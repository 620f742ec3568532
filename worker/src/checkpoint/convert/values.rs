//! A tensor's rows as numbers, and numbers as bytes.

use std::ops::Range;

use super::super::error::WeightsError;
use super::super::piece::{ModelTensor, Piece};
use super::super::source::StoredType;
use crate::quants::{self, decode_bytes, plain, ByteType};

/// The parts of a tensor's pieces that its rows `rows` lie in, each with its rows in the file.
fn cut<'a>(
    tensor: &'a ModelTensor,
    rows: &Range<usize>,
) -> impl Iterator<Item = (&'a Piece, Range<usize>)> {
    let rows = rows.clone();
    let mut first = 0;
    tensor.pieces.iter().filter_map(move |piece| {
        let (start, of_piece) = (first, piece.rows());
        first += of_piece.len();
        let from = rows.start.max(start);
        let to = rows.end.min(first);
        let in_file = |row: usize| row - start + of_piece.start;
        (from < to).then(|| (piece, in_file(from)..in_file(to)))
    })
}

/// The type that all of a tensor's rows `rows` are stored in, if it is one and their values
/// have no scale beside them.
pub(super) fn stored<'a>(tensor: &'a ModelTensor, rows: &Range<usize>) -> Option<&'a StoredType> {
    let mut pieces = cut(tensor, rows);
    let (first, _) = pieces.next()?;
    let same =
        |piece: &Piece| piece.stored() == first.stored() && piece.tensor().coding().is_none();
    (same(first) && pieces.all(|(piece, _)| same(piece))).then_some(first.stored())
}

/// The stored bytes of a tensor's rows.
///
/// # Errors
/// The rows do not start at whole bytes and blocks.
pub(super) fn bytes(tensor: &ModelTensor, rows: &Range<usize>) -> Result<Vec<u8>, WeightsError> {
    let mut all = Vec::new();
    for (piece, rows) in cut(tensor, rows) {
        let source = piece.tensor().source();
        all.extend_from_slice(&source.bytes(piece.tensor().entry(), rows)?);
    }
    Ok(all)
}

/// The numbers in a tensor's rows.
///
/// # Errors
/// The rows do not start at whole bytes and blocks, or their type cannot be loaded.
pub(super) fn numbers(tensor: &ModelTensor, rows: &Range<usize>) -> Result<Vec<f32>, WeightsError> {
    let mut all = Vec::new();
    for (piece, rows) in cut(tensor, rows) {
        let (file_tensor, entry) = (piece.tensor(), piece.tensor().entry());
        let bytes = file_tensor.source().bytes(entry, rows.clone())?;
        let mut numbers = match piece.stored() {
            StoredType::F64 => plain::of_f64(&bytes),
            StoredType::F32 => plain::of_f32(&bytes),
            StoredType::F16 => plain::of_f16(&bytes),
            StoredType::Bf16 => plain::of_bf16(&bytes),
            StoredType::Byte(kind) => {
                let (width, coding) = (entry.shape.iter().skip(1).product(), file_tensor.coding());
                decode_bytes(*kind, &bytes, width, coding.scales(rows), coding.rotation())
            }
            StoredType::Block(kind) => quants::decode(*kind, &bytes),
            StoredType::Other(dtype) => {
                return Err(WeightsError::Dtype {
                    file: file_tensor.path().to_owned(),
                    tensor: entry.name.clone(),
                    dtype: dtype.clone(),
                })
            }
        };
        if let Some(odd) = numbers.iter().find(|number| !number.is_finite()) {
            return Err(WeightsError::Value {
                file: file_tensor.path().to_owned(),
                tensor: entry.name.clone(),
                value: *odd,
                dtype: None,
            });
        }
        all.append(&mut numbers);
    }
    Ok(all)
}

/// Numbers in the bytes of a type; `None` for one that is not written. `scale` divides 8-bit
/// floats.
pub(super) fn encoded(numbers: &[f32], stored: &StoredType, scale: f32) -> Option<Vec<u8>> {
    Some(match stored {
        StoredType::F32 => plain::to_f32(numbers),
        StoredType::F16 => plain::to_f16(numbers),
        StoredType::Bf16 => plain::to_bf16(numbers),
        StoredType::Byte(ByteType::E4m3) => plain::to_f8(numbers, scale),
        StoredType::Block(kind) => quants::encode(*kind, numbers),
        StoredType::F64 | StoredType::Byte(_) | StoredType::Other(_) => return None,
    })
}

/// Largest magnitude that a type can store: that of its scale where it has one.
pub(super) fn largest(stored: &StoredType) -> f32 {
    const HALF: f32 = 65_504.0;
    match stored {
        StoredType::F16 | StoredType::Block(_) => HALF,
        _ => f32::MAX,
    }
}
