//! Where a tensor of a GGUF file lies.

use super::cursor::{Cursor, Reason};
use super::types::{kind_of, Kind};

/// Most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;

/// A tensor's description, not yet held against the file's length.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub name: &'a str,
    pub kind: Kind,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// First byte, from the start of the data.
    pub start: u64,
    /// Bytes of data.
    pub length: u64,
}

impl<'a> Place<'a> {
    /// Least bytes of a description: a name's length, a number of dimensions, a type and an
    /// offset.
    pub const LEAST: usize = 24;

    /// Reads a description.
    ///
    /// # Errors
    /// The file ends before it does, or the tensor cannot exist.
    pub fn read(cursor: &mut Cursor<'a>) -> Result<Self, Reason> {
        let name = cursor.name("tensor")?;
        let dimensions = cursor.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(format!(
                "tensor `{name}` has {dimensions} dimensions, more than {MAX_DIMENSIONS}"
            ));
        }
        // ggml counts dimensions from the innermost.
        let mut shape = Vec::with_capacity(MAX_DIMENSIONS as usize);
        for _ in 0..dimensions {
            let size = cursor.u64()?;
            shape.push(usize::try_from(size).map_err(|_| too_large(name))?);
        }
        shape.reverse();
        let code = cursor.u32()?;
        let start = cursor.u64()?;
        let kind = kind_of(code).ok_or_else(|| {
            format!("tensor `{name}` has type {code}, which this ovis-worker does not know")
        })?;
        let row = shape.last().copied().unwrap_or(1);
        if row % kind.values != 0 {
            return Err(format!(
                "tensor `{name}` has rows of {row} values, no whole blocks of {} as {} has",
                kind.values, kind.stored
            ));
        }
        let values = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let length = values
            .and_then(|values| (values / kind.values).checked_mul(kind.bytes))
            .ok_or_else(|| too_large(name))?;
        Ok(Self {
            name,
            kind,
            shape,
            start,
            length: length as u64,
        })
    }
}

fn too_large(name: &str) -> Reason {
    format!("tensor `{name}` is larger than any memory")
}
