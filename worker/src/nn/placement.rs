//! Where a network lives and in which types.

use candle_core::{DType, Device};

use crate::quants::BlockType;

/// How the weights of the large matrix products are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// As a tensor of the placement's weight type.
    Dense,
    /// As rows of E4M3 with a scale each. Inputs are quantized row by row before a product, and
    /// attention runs in fp8 where the device supports it.
    Fp8,
    /// In blocks of this type, which are decoded for each product.
    Blocks(BlockType),
}

/// Where a network lives and in which types.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The device of weights and activations.
    pub device: Device,
    /// Type of the weights that are stored as tensors.
    pub weights: DType,
    /// Format of the large weights of the transformer's blocks. For [`WeightFormat::Fp8`] the
    /// device must pass [`check_fp8`](super::check_fp8).
    pub products: WeightFormat,
}

impl Placement {
    /// Type of activations. On a CPU, bf16 only saves memory: the arithmetic is float32, because
    /// CPUs have no fast bf16 units.
    pub fn compute(&self) -> DType {
        if self.device.is_cpu() {
            DType::F32
        } else {
            self.weights
        }
    }

    /// The precision's name in messages and logs: `f32`, `bf16`, `fp8`, or that of a block type.
    pub fn precision(&self) -> &'static str {
        match self.products {
            WeightFormat::Dense => self.weights.as_str(),
            WeightFormat::Fp8 => "fp8",
            WeightFormat::Blocks(kind) => kind.lower_name(),
        }
    }

    /// The device's name in messages and logs, such as `cpu` or `cuda:0`.
    pub fn device_name(&self) -> String {
        match self.device.location() {
            candle_core::DeviceLocation::Cpu => "cpu".into(),
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        }
    }
}

/// Why a device cannot multiply 8-bit floats. The text names the device that was found.
#[derive(Debug, thiserror::Error)]
pub enum Fp8Refusal {
    /// Only GPUs can.
    #[error("a CPU")]
    Cpu,
    /// The GPU's generation has no tensor cores for fp8.
    #[error("a GPU of compute capability {major}.{minor}")]
    OldGpu {
        /// Major number of the compute capability.
        major: i32,
        /// Minor number of the compute capability.
        minor: i32,
    },
    /// The driver did not answer.
    #[error("a GPU that does not tell its compute capability ({0})")]
    Unknown(#[source] Box<dyn std::error::Error + Send + Sync>),
}
