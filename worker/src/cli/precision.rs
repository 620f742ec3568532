//! The `--precision` argument.

use std::sync::LazyLock;

use candle_core::{DType, Device};
use clap::builder::PossibleValue;
use clap::ValueEnum;

use crate::nn::{Placement, WeightFormat};
use crate::quants::BlockType;

/// Precision of weights and arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// float32.
    F32,
    /// bfloat16. On a CPU, weights are stored in bfloat16 and computed with in float32.
    Bf16,
    /// bfloat16, with 8-bit floats for the transformer's large matrix products and, from compute
    /// capability 9.0 on, its attention. Faster, and needs less memory; slightly less exact.
    /// Requires an NVIDIA GPU of compute capability 8.9 or newer.
    Fp8,
    /// The transformer's large matrices in blocks, which are decoded for each product; the rest as
    /// by default.
    Blocks(BlockType),
}

impl Precision {
    /// Those between which a whole model's memory differs most, the largest first.
    pub const USUAL: [Self; 5] = [
        Self::F32,
        Self::Bf16,
        Self::Fp8,
        Self::Blocks(BlockType::Q8_0),
        Self::Blocks(BlockType::Q4K),
    ];

    /// The precision of a placement.
    pub fn of(placement: &Placement) -> Self {
        match placement.products {
            WeightFormat::Blocks(kind) => Self::Blocks(kind),
            WeightFormat::Fp8 => Self::Fp8,
            WeightFormat::Dense if placement.weights == DType::BF16 => Self::Bf16,
            WeightFormat::Dense => Self::F32,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Blocks(kind) => kind.lower_name(),
        }
    }

    /// Weights and arithmetic of this precision on a device.
    pub fn placed(self, device: Device) -> Placement {
        Placement {
            weights: match self {
                Self::F32 => DType::F32,
                Self::Bf16 | Self::Fp8 => DType::BF16,
                Self::Blocks(_) if device.is_cpu() => DType::F32,
                Self::Blocks(_) => DType::BF16,
            },
            products: match self {
                Self::F32 | Self::Bf16 => WeightFormat::Dense,
                Self::Fp8 => WeightFormat::Fp8,
                Self::Blocks(kind) => WeightFormat::Blocks(kind),
            },
            device,
        }
    }
}

impl ValueEnum for Precision {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<Precision>> = LazyLock::new(|| {
            let blocks = BlockType::ALL.map(Precision::Blocks);
            let others = [Precision::F32, Precision::Bf16, Precision::Fp8];
            others.into_iter().chain(blocks).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::F32 => PossibleValue::new("f32").help("float32"),
            Self::Bf16 => PossibleValue::new("bf16")
                .help("bfloat16; on a CPU, weights are stored in it and computed with in float32"),
            Self::Fp8 => PossibleValue::new("fp8").help(
                "bfloat16, with 8-bit floats for the transformer's large products and its \
                 attention; needs an NVIDIA GPU of compute capability 8.9 or newer",
            ),
            Self::Blocks(kind) => PossibleValue::new(kind.lower_name())
                .help("the transformer's large matrices in ggml's blocks, quantized when loaded"),
        })
    }
}
