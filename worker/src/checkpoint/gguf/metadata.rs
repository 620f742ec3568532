//! Values of a GGUF file's metadata.

use super::cursor::{Cursor, Reason};

/// Deepest nesting of arrays.
const MAX_DEPTH: usize = 4;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An unsigned number.
    U32(u32),
    /// A number with a fraction.
    F32(f32),
    /// True or false.
    Bool(bool),
    /// Text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// Signed numbers.
    I32s(Vec<i32>),
}

/// Numbers of the types of values in a file.
mod code {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const TEXT: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

impl Value {
    /// Appends the value, its type first.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut put = |code: u32, bytes: &[u8]| {
            out.extend(code.to_le_bytes());
            out.extend(bytes);
        };
        match self {
            Self::U32(number) => put(code::U32, &number.to_le_bytes()),
            Self::F32(number) => put(code::F32, &number.to_le_bytes()),
            Self::Bool(flag) => put(code::BOOL, &[u8::from(*flag)]),
            Self::Text(text) => {
                put(code::TEXT, &[]);
                write_text(text, out);
            }
            Self::Texts(texts) => {
                put(code::ARRAY, &code::TEXT.to_le_bytes());
                out.extend((texts.len() as u64).to_le_bytes());
                texts.iter().for_each(|text| write_text(text, out));
            }
            Self::I32s(numbers) => {
                put(code::ARRAY, &code::I32.to_le_bytes());
                out.extend((numbers.len() as u64).to_le_bytes());
                out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
        }
    }
}

/// Appends a text, its length first.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Reads a value and returns it if it is a single number.
///
/// # Errors
/// The file ends before it does, or its type is unknown.
pub(super) fn read_number(cursor: &mut Cursor) -> Result<Option<f64>, Reason> {
    let code = cursor.u32()?;
    Ok(Some(match code {
        code::U8 | code::BOOL => f64::from(cursor.array::<1>()?[0]),
        code::I8 => f64::from(i8::from_le_bytes(cursor.array()?)),
        code::U16 => f64::from(u16::from_le_bytes(cursor.array()?)),
        code::I16 => f64::from(i16::from_le_bytes(cursor.array()?)),
        code::U32 => f64::from(cursor.u32()?),
        code::I32 => f64::from(i32::from_le_bytes(cursor.array()?)),
        code::F32 => f64::from(f32::from_le_bytes(cursor.array()?)),
        code::U64 => cursor.u64()? as f64,
        code::I64 => i64::from_le_bytes(cursor.array()?) as f64,
        code::F64 => f64::from_le_bytes(cursor.array()?),
        _ => {
            skip(cursor, code, 0)?;
            return Ok(None);
        }
    }))
}

/// Bytes of a value whose type has a fixed size.
fn fixed_size(code: u32) -> Option<u64> {
    match code {
        code::U8 | code::I8 | code::BOOL => Some(1),
        code::U16 | code::I16 => Some(2),
        code::U32 | code::I32 | code::F32 => Some(4),
        code::U64 | code::I64 | code::F64 => Some(8),
        _ => None,
    }
}

/// Passes over a value.
fn skip(cursor: &mut Cursor, code: u32, depth: usize) -> Result<(), Reason> {
    if let Some(size) = fixed_size(code) {
        return cursor.take(size).map(|_| ());
    }
    match code {
        code::TEXT => cursor.string().map(|_| ()),
        code::ARRAY if depth == MAX_DEPTH => Err(format!(
            "its metadata has arrays in arrays, more than {MAX_DEPTH} deep"
        )),
        code::ARRAY => {
            let inner = cursor.u32()?;
            if let Some(size) = fixed_size(inner) {
                let count = cursor.count("numbers in an array", size as usize)?;
                return cursor.take(count * size).map(|_| ());
            }
            // A text takes 8 bytes for its length, an array 12 for its type and length.
            let count = cursor.count("values in an array", 8)?;
            (0..count).try_for_each(|_| skip(cursor, inner, depth + 1))
        }
        _ => Err(format!(
            "its metadata has a value of type {code}, which GGUF does not have"
        )),
    }
}
