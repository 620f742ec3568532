//! The precisions that can be written.

use super::super::source::StoredType;
use crate::quants::{BlockType, ByteType};

/// Precision of a file's large matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One of ggml's block types.
    Block(BlockType),
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 8-bit floats E4M3 with a scale for each matrix.
    Fp8,
}

impl Target {
    /// How the matrices are stored.
    pub fn stored(self) -> StoredType {
        match self {
            Self::Block(kind) => StoredType::Block(kind),
            Self::F16 => StoredType::F16,
            Self::Bf16 => StoredType::Bf16,
            Self::Fp8 => StoredType::Byte(ByteType::E4m3),
        }
    }

    /// Extension of a file of this precision.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Fp8 => "safetensors",
            _ => "gguf",
        }
    }

    /// llama.cpp's number of a file of mostly this precision (`enum llama_ftype`). A file of
    /// `Q3_K`, `Q4_K` or `Q5_K` is of its mixture M, as that name means in llama-quantize.
    pub(super) fn file_type(self) -> Option<u32> {
        Some(match self {
            Self::F16 => 1,
            Self::Bf16 => 32,
            Self::Fp8 => return None,
            Self::Block(kind) => match kind {
                BlockType::Q4_0 => 2,
                BlockType::Q4_1 => 3,
                BlockType::Q8_0 => 7,
                BlockType::Q5_0 => 8,
                BlockType::Q5_1 => 9,
                BlockType::Q2K => 10,
                BlockType::Q3K => 12,
                BlockType::Q4K => 15,
                BlockType::Q5K => 17,
                BlockType::Q6K => 18,
                BlockType::Iq4Nl => 25,
                BlockType::Iq4Xs => 30,
            },
        })
    }
}
