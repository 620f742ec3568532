//! Writes a planned file, a few rows at a time.

use std::io::{self, BufWriter, Write};
use std::ops::Range;

use super::super::error::WeightsError;
use super::super::piece::ModelTensor;
use super::super::source::StoredType;
use super::plan::{Conversion, Planned, MARKER};
use super::target::Target;
use super::values;
use crate::quants::e4m3;
use crate::quants::ByteType;

/// Most values that are held at a time, where a row is not longer.
const MOST_VALUES: usize = 1 << 24;

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A tensor cannot be read, or its values cannot be stored.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The file cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Conversion {
    /// Writes the file. `progress` receives the bytes of tensors written so far after each
    /// tensor.
    ///
    /// # Errors
    /// A tensor cannot be read or stored, or `out` cannot be written.
    pub fn write(&self, out: impl Write, mut progress: impl FnMut(u64)) -> Result<(), WriteError> {
        let mut out = BufWriter::with_capacity(1 << 20, out);
        out.write_all(&self.header())?;
        if self.target == Target::Fp8 {
            out.write_all(&[0; MARKER.1])?;
        }
        let mut done = 0;
        for planned in &self.tensors {
            self.write_tensor(planned, &mut out)?;
            let padding = planned.bytes.next_multiple_of(self.alignment()) - planned.bytes;
            out.write_all(&vec![0; padding as usize])?;
            done += planned.bytes;
            progress(done);
        }
        out.flush()?;
        Ok(())
    }

    fn write_tensor(&self, planned: &Planned, out: &mut impl Write) -> Result<(), WriteError> {
        let Planned { output, stored, .. } = planned;
        let tensor = self.part.expect_any(&output.canonical)?;
        let at_once = match output.shape.len() {
            // A vector may be in blocks, which rows of one value do not cut.
            0 | 1 => output.values(),
            _ => (MOST_VALUES / output.row_length().max(1)).max(1),
        };
        let pieces = || {
            let end = output.rows.end;
            let starts = output.rows.clone().step_by(at_once.max(1));
            starts.map(move |start| start..end.min(start + at_once))
        };
        if values::stored(tensor, &output.rows) == Some(stored) {
            for rows in pieces() {
                out.write_all(&values::bytes(tensor, &rows)?)?;
            }
            if *stored == StoredType::Byte(ByteType::E4m3) {
                // These have no scale, and every one gets one.
                out.write_all(&1f32.to_le_bytes())?;
            }
            return Ok(());
        }
        let scale = match stored {
            StoredType::Byte(ByteType::E4m3) => Some(scale(tensor, pieces())?),
            _ => None,
        };
        for rows in pieces() {
            let numbers = values::numbers(tensor, &rows)?;
            let limit = values::largest(stored);
            let unfit = |value: f32| WeightsError::Value {
                file: self.part.path().to_owned(),
                tensor: output.name.clone(),
                value,
                dtype: Some(stored.to_string()),
            };
            if let Some(large) = numbers.iter().find(|number| number.abs() > limit) {
                return Err(unfit(*large).into());
            }
            let bytes = values::encoded(&numbers, stored, scale.unwrap_or(1.0));
            out.write_all(&bytes.ok_or_else(|| unfit(0.0))?)?;
        }
        if let Some(scale) = scale {
            out.write_all(&scale.to_le_bytes())?;
        }
        Ok(())
    }
}

/// The factor by which 8-bit floats are smaller than a matrix's values: its largest magnitude
/// becomes the largest number.
fn scale(
    tensor: &ModelTensor,
    pieces: impl Iterator<Item = Range<usize>>,
) -> Result<f32, WeightsError> {
    let mut most = 0.0f32;
    for rows in pieces {
        let numbers = values::numbers(tensor, &rows)?;
        most = numbers.iter().fold(most, |most, x| most.max(x.abs()));
    }
    let scale = most / e4m3::LARGEST;
    Ok(if scale > 0.0 { scale } else { 1.0 })
}
