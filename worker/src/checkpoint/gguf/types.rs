//! ggml's types of tensors.

use super::super::source::StoredType;
use crate::quants::BlockType;

/// Numbers, names and bytes of the types without blocks that are known.
const PLAIN: [(u32, &str, usize); 8] = [
    (0, "F32", 4),
    (1, "F16", 2),
    (24, "I8", 1),
    (25, "I16", 2),
    (26, "I32", 4),
    (27, "I64", 8),
    (28, "F64", 8),
    (30, "BF16", 2),
];

/// Numbers, names, values and bytes of a block of the block types that are not decoded.
const OTHERS: [(u32, &str, usize, usize); 15] = [
    (9, "Q8_1", 32, 40),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (29, "IQ1_M", 256, 56),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
    (42, "Q2_0", 64, 18),
];

/// A type: how it is loaded, and the values and bytes of a block.
#[derive(Debug, PartialEq)]
pub(super) struct Kind {
    pub stored: StoredType,
    pub values: usize,
    pub bytes: usize,
}

/// The type of a number, if ggml has it.
pub(super) fn kind_of(code: u32) -> Option<Kind> {
    if let Some(kind) = BlockType::of_code(code) {
        return Some(Kind {
            stored: StoredType::Block(kind),
            values: kind.values(),
            bytes: kind.bytes(),
        });
    }
    if let Some((_, name, bytes)) = PLAIN.into_iter().find(|(number, ..)| *number == code) {
        let stored = match name {
            "F64" => StoredType::F64,
            "F32" => StoredType::F32,
            "F16" => StoredType::F16,
            "BF16" => StoredType::Bf16,
            _ => StoredType::Other(name.into()),
        };
        return Some(Kind {
            stored,
            values: 1,
            bytes,
        });
    }
    let mut others = OTHERS.into_iter();
    let (_, name, values, bytes) = others.find(|(number, ..)| *number == code)?;
    Some(Kind {
        stored: StoredType::Other(format!("{name} (type {code})")),
        values,
        bytes,
    })
}

/// ggml's number of a type that can be written. Types that ggml does not have are written as
/// float32.
pub(super) fn code_of(stored: &StoredType) -> u32 {
    match stored {
        StoredType::Block(kind) => kind.code(),
        StoredType::F16 => 1,
        StoredType::F64 => 28,
        StoredType::Bf16 => 30,
        StoredType::F32 | StoredType::Byte(_) | StoredType::Other(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_types_match() {
        for code in 0..64 {
            let Some(kind) = kind_of(code) else { continue };
            let wanted = match &kind.stored {
                StoredType::Other(_) => 0,
                _ => code,
            };
            assert_eq!(code_of(&kind.stored), wanted);
        }
        assert_eq!(kind_of(4), None);
    }
}
