//! The block types of ggml: how many values a block has, and how many bytes.

use std::fmt;

/// Number format that stores values in blocks with scales of their own.
///
/// Source: ggml `ggml-common.h` (`block_q4_0` and so on) and `ggml.h` (`enum ggml_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockType {
    /// 8 bits a value and a scale for 32.
    Q8_0,
    /// 6 bits a value in groups of 16, 256 a block.
    Q6K,
    /// 5 bits a value with minimum in groups of 32, 256 a block.
    Q5K,
    /// 5 bits a value, a scale and a minimum for 32.
    Q5_1,
    /// 5 bits a value and a scale for 32.
    Q5_0,
    /// 4 bits a value with minimum in groups of 32, 256 a block.
    Q4K,
    /// 4 bits a value, a scale and a minimum for 32.
    Q4_1,
    /// 4 bits a value and a scale for 32.
    Q4_0,
    /// 3 bits a value in groups of 16, 256 a block.
    Q3K,
    /// 2 bits a value with minimum in groups of 16, 256 a block.
    Q2K,
    /// 4 bits a value on a non-linear scale for 32.
    Iq4Nl,
    /// 4 bits a value on non-linear scales in groups of 32, 256 a block.
    Iq4Xs,
}

impl BlockType {
    /// All types, the largest first.
    pub const ALL: [Self; 12] = [
        Self::Q8_0,
        Self::Q6K,
        Self::Q5K,
        Self::Q5_1,
        Self::Q5_0,
        Self::Q4K,
        Self::Q4_1,
        Self::Q4_0,
        Self::Q3K,
        Self::Q2K,
        Self::Iq4Nl,
        Self::Iq4Xs,
    ];

    /// ggml's name: `Q4_K`.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The name in options and as a precision: `q4_k`.
    pub const fn lower_name(self) -> &'static str {
        self.row().1
    }

    /// ggml's number of the type, as a GGUF file has it.
    pub const fn code(self) -> u32 {
        self.row().2
    }

    /// Values in a block.
    pub const fn values(self) -> usize {
        self.row().3
    }

    /// Bytes of a block.
    pub const fn bytes(self) -> usize {
        self.row().4
    }

    /// Bits that a value takes, its share of the scales included.
    pub fn bits(self) -> f64 {
        (8 * self.bytes()) as f64 / self.values() as f64
    }

    /// The type with ggml's number `code`.
    pub fn of_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Both names, number, values and bytes.
    const fn row(self) -> (&'static str, &'static str, u32, usize, usize) {
        match self {
            Self::Q8_0 => ("Q8_0", "q8_0", 8, 32, 34),
            Self::Q6K => ("Q6_K", "q6_k", 14, 256, 210),
            Self::Q5K => ("Q5_K", "q5_k", 13, 256, 176),
            Self::Q5_1 => ("Q5_1", "q5_1", 7, 32, 24),
            Self::Q5_0 => ("Q5_0", "q5_0", 6, 32, 22),
            Self::Q4K => ("Q4_K", "q4_k", 12, 256, 144),
            Self::Q4_1 => ("Q4_1", "q4_1", 3, 32, 20),
            Self::Q4_0 => ("Q4_0", "q4_0", 2, 32, 18),
            Self::Q3K => ("Q3_K", "q3_k", 11, 256, 110),
            Self::Q2K => ("Q2_K", "q2_k", 10, 256, 84),
            Self::Iq4Nl => ("IQ4_NL", "iq4_nl", 20, 32, 18),
            Self::Iq4Xs => ("IQ4_XS", "iq4_xs", 23, 256, 136),
        }
    }
}

impl fmt::Display for BlockType {
    /// Writes ggml's name of the type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
