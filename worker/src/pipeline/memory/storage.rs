//! A precision, as far as sizes go.

use candle_core::DType;

use crate::nn::{Placement, WeightFormat};
use crate::quants::BlockType;

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Name of the type: pages of one type share slots.
    pub(super) kind: &'static str,
    /// Bytes of a block of values.
    pub(super) bytes: u64,
    /// Values in a block.
    values: u64,
}

impl Packing {
    const FP8: Self = Self {
        kind: "fp8",
        bytes: 1,
        values: 1,
    };

    /// Values of a type, one after another.
    pub(super) fn dense(dtype: DType) -> Self {
        Self {
            kind: dtype.as_str(),
            bytes: dtype.size_in_bytes() as u64,
            values: 1,
        }
    }

    /// Blocks of a type. Those of all types share slots.
    fn blocks(kind: BlockType) -> Self {
        Self {
            kind: BLOCKS,
            bytes: kind.bytes() as u64,
            values: kind.values() as u64,
        }
    }

    /// Bytes of `values` values.
    pub(super) fn bytes(self, values: u64) -> u64 {
        values.div_ceil(self.values) * self.bytes
    }
}

/// Name of all types of blocks.
pub(super) const BLOCKS: &str = "blocks";

/// A precision, as far as sizes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Its name.
    pub name: &'static str,
    /// The blocks' large weights.
    pub large: Packing,
    /// The weights of the modulations.
    pub modulations: Packing,
    /// All else, and the arithmetic.
    pub other: Packing,
}

impl Storage {
    /// A placement's.
    pub fn of(placement: &Placement) -> Self {
        let other = Packing::dense(placement.weights);
        Self {
            name: placement.precision(),
            large: match placement.products {
                WeightFormat::Dense => other,
                WeightFormat::Fp8 => Packing::FP8,
                WeightFormat::Blocks(kind) => Packing::blocks(kind),
            },
            modulations: other,
            other,
        }
    }

    /// Whether the blocks' large weights are fp8.
    pub(super) fn is_fp8(&self) -> bool {
        self.large == Packing::FP8
    }
}
