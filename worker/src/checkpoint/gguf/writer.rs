//! Writes GGUF files of version 3.

use super::super::source::StoredType;
use super::metadata::{write_text, Value};
use super::types::code_of;

/// First bytes of a file.
pub const MAGIC: &[u8; 4] = b"GGUF";

/// Alignment of each tensor's data where the metadata gives none.
pub const ALIGNMENT: u64 = 32;

/// Version that is written.
const VERSION: u32 = 3;

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct Described {
    /// Name in the file.
    pub name: String,
    /// Type.
    pub stored: StoredType,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Bytes of data.
    pub bytes: u64,
}

/// Bytes of a file up to its data. The tensors' data follow in their order, each padded with
/// zeros to a multiple of [`ALIGNMENT`].
pub fn write_header(metadata: &[(String, Value)], tensors: &[Described]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        write_text(key, &mut out);
        value.write(&mut out);
    }
    let mut start = 0u64;
    for tensor in tensors {
        write_text(&tensor.name, &mut out);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        for &size in tensor.shape.iter().rev() {
            out.extend((size as u64).to_le_bytes());
        }
        out.extend(code_of(&tensor.stored).to_le_bytes());
        out.extend(start.to_le_bytes());
        start += tensor.bytes.next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    out
}
