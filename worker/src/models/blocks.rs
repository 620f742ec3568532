//! Rows of weights in blocks: as a file has them, or encoded when they are loaded.

use std::borrow::Cow;

use candle_core::{DType, Device};

use super::assemble::{AssembleError, Assembler};
use crate::checkpoint::{Fill, ModelTensor, StoredType, WeightsError};
use crate::nn::PackedRows;
use crate::quants::{encode, BlockType};

/// The rows of a tensor as its files have them, or `None` if they are not all in blocks.
///
/// # Errors
/// The rows cannot be read.
pub(super) fn stored(tensor: &ModelTensor) -> Result<Option<Vec<PackedRows<'_>>>, WeightsError> {
    let pieces = tensor.pieces.iter().map(|piece| match piece.stored() {
        StoredType::Block(kind) => Ok(Some(PackedRows {
            kind: *kind,
            rows: piece.rows().len(),
            bytes: piece.bytes()?,
        })),
        _ => Ok(None),
    });
    pieces.collect()
}

/// The rows of a matrix in blocks of one type. The caller checks that a row has whole blocks.
///
/// # Errors
/// The rows cannot be read.
pub(super) fn encoded(
    tensor: &ModelTensor,
    kind: BlockType,
) -> Result<PackedRows<'static>, AssembleError> {
    let bytes = match repeated(tensor, kind) {
        Some(bytes) => bytes,
        None => {
            let values = Assembler::new(&Device::Cpu, DType::F32).tensor(tensor)?;
            encode(kind, &values.flatten_all()?.to_vec1::<f32>()?)
        }
    };
    Ok(PackedRows {
        kind,
        rows: tensor.shape[0],
        bytes: Cow::Owned(bytes),
    })
}

/// The blocks of a tensor that repeats values: those of the values once, repeated. Random weights
/// of full size load in seconds by this.
fn repeated(tensor: &ModelTensor, kind: BlockType) -> Option<Vec<u8>> {
    let [piece] = &tensor.pieces[..] else {
        return None;
    };
    let Some(Fill::Repeated { values, scale }) = piece.fill() else {
        return None;
    };
    if !values.len().is_multiple_of(kind.values()) {
        return None;
    }
    let count = tensor.shape.iter().product::<usize>();
    let scaled: Vec<f32> = values
        .iter()
        .take(count)
        .map(|x| x * scale as f32)
        .collect();
    let blocks = encode(kind, &scaled);
    let bytes = count / kind.values() * kind.bytes();
    Some(blocks.iter().copied().cycle().take(bytes).collect())
}
