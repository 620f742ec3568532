//! A stored matrix or vector of an adapter, and its values.

use std::borrow::Cow;
use std::sync::Arc;

use half::{bf16, f16};
use rayon::prelude::*;

use crate::checkpoint::error::WeightsError;
use crate::checkpoint::piece::FileTensor;
use crate::checkpoint::source::StoredType;

/// Numbers that one task converts or checks.
const CHUNK: usize = 1 << 16;

/// A matrix of an adapter, as its file stores it. The file stays mapped for as long as the matrix
/// is kept.
#[derive(Clone, Debug)]
pub struct Factor {
    tensor: Arc<FileTensor>,
    /// Rows and columns in the file.
    stored: [usize; 2],
    is_transposed: bool,
}

impl Factor {
    /// A matrix `[rows, columns]` of a tensor with as many values.
    pub(super) fn new(tensor: FileTensor, stored: [usize; 2]) -> Self {
        Self {
            tensor: Arc::new(tensor),
            stored,
            is_transposed: false,
        }
    }

    /// The same matrix, transposed.
    pub(super) fn transposed(self) -> Self {
        Self {
            is_transposed: !self.is_transposed,
            ..self
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.stored[usize::from(self.is_transposed)]
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.stored[usize::from(!self.is_transposed)]
    }

    /// Whether [`bytes`](Self::bytes) hold the columns one after another instead of the rows.
    pub fn is_transposed(&self) -> bool {
        self.is_transposed
    }

    /// Number format of the bytes: F64, F32, F16 or BF16.
    pub fn stored(&self) -> &StoredType {
        &self.tensor.entry().stored
    }

    /// The stored bytes, little-endian.
    ///
    /// # Errors
    /// As [`TensorSource::bytes`](crate::checkpoint::TensorSource::bytes).
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>, WeightsError> {
        bytes(&self.tensor)
    }

    /// The values, row by row.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn to_f32(&self) -> Result<Vec<f32>, WeightsError> {
        let values = decode(&self.bytes()?, self.stored());
        if !self.is_transposed {
            return Ok(values);
        }
        let [rows, columns] = self.stored;
        let mut transposed = Vec::with_capacity(values.len());
        for column in 0..columns {
            transposed.extend((0..rows).map(|row| values[row * columns + column]));
        }
        Ok(transposed)
    }
}

/// All bytes of a tensor.
pub(super) fn bytes(tensor: &FileTensor) -> Result<Cow<'_, [u8]>, WeightsError> {
    let entry = tensor.entry();
    tensor.source().bytes(entry, 0..entry.rows())
}

/// Whether values of this type can be read.
pub(super) fn is_readable(stored: &StoredType) -> bool {
    matches!(
        stored,
        StoredType::F64 | StoredType::F32 | StoredType::F16 | StoredType::Bf16
    )
}

/// Numbers from their bytes; nothing from a type that is not [readable](is_readable).
pub(super) fn decode(bytes: &[u8], stored: &StoredType) -> Vec<f32> {
    match stored {
        StoredType::F64 => convert(bytes, |b| f64::from_le_bytes(b) as f32),
        StoredType::F32 => convert(bytes, f32::from_le_bytes),
        StoredType::F16 => convert(bytes, |b| f16::from_le_bytes(b).to_f32()),
        StoredType::Bf16 => convert(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        _ => Vec::new(),
    }
}

fn convert<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32 + Sync) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<N>();
    let mut values = vec![0f32; numbers.len()];
    let chunks = values.par_chunks_mut(CHUNK).zip(numbers.par_chunks(CHUNK));
    chunks.for_each(|(values, numbers)| {
        for (value, bytes) in values.iter_mut().zip(numbers) {
            *value = number(*bytes);
        }
    });
    values
}

/// Numbers as bytes of a type, rounded to nearest even; `None` for a type that is not
/// [readable](is_readable).
pub(super) fn encode(values: &[f32], stored: &StoredType) -> Option<Vec<u8>> {
    match stored {
        StoredType::F64 => Some(fill(values, |v| f64::from(v).to_le_bytes())),
        StoredType::F32 => Some(fill(values, f32::to_le_bytes)),
        StoredType::F16 => Some(fill(values, |v| f16::from_f32(v).to_le_bytes())),
        StoredType::Bf16 => Some(fill(values, |v| bf16::from_f32(v).to_le_bytes())),
        _ => None,
    }
}

fn fill<const N: usize>(values: &[f32], bytes_of: impl Fn(f32) -> [u8; N] + Sync) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * N];
    let chunks = bytes
        .par_chunks_mut(CHUNK * N)
        .zip(values.par_chunks(CHUNK));
    chunks.for_each(|(bytes, values)| {
        for (bytes, value) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(values) {
            *bytes = bytes_of(*value);
        }
    });
    bytes
}

/// Whether all numbers are finite: no exponent has all bits set.
pub(super) fn all_finite(bytes: &[u8], stored: &StoredType) -> bool {
    // The upper two bytes of a number hold its exponent.
    match stored {
        StoredType::F64 => finite::<8>(bytes, 0x7ff0),
        StoredType::F32 => finite::<4>(bytes, 0x7f80),
        StoredType::F16 => finite::<2>(bytes, 0x7c00),
        StoredType::Bf16 => finite::<2>(bytes, 0x7f80),
        _ => true,
    }
}

fn finite<const N: usize>(bytes: &[u8], exponent: u16) -> bool {
    let (numbers, _) = bytes.as_chunks::<N>();
    numbers.par_chunks(CHUNK).all(|numbers| {
        let mut all = true;
        for number in numbers {
            let upper = u16::from_le_bytes([number[N - 2], number[N - 1]]);
            all &= upper & exponent != exponent;
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_type_come_back() {
        let values = [0.0, 1.5, -2.25, 1.0 / 1024.0, 96.0];
        for stored in [
            StoredType::F64,
            StoredType::F32,
            StoredType::F16,
            StoredType::Bf16,
        ] {
            let bytes = encode(&values, &stored).unwrap();
            assert_eq!(decode(&bytes, &stored), values, "{stored}");
            assert!(all_finite(&bytes, &stored), "{stored}");
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let bytes = encode(&[1.0, wrong], &stored).unwrap();
                assert!(!all_finite(&bytes, &stored), "{stored}");
            }
        }
        assert_eq!(
            encode(&values, &StoredType::Byte(crate::quants::ByteType::E4m3)),
            None
        );
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        // Half way between 1 and the next bf16, and the next f16.
        let (bf, f) = (1.0 + 2f32.powi(-8), 1.0 + 2f32.powi(-11));
        let stored = StoredType::Bf16;
        assert_eq!(decode(&encode(&[bf], &stored).unwrap(), &stored), [1.0]);
        let stored = StoredType::F16;
        assert_eq!(decode(&encode(&[f], &stored).unwrap(), &stored), [1.0]);
    }
}
