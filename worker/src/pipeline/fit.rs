//! Checks that a model and its jobs fit the machine's memory, before work begins.

use std::fmt;

use candle_core::{DType, Device};

use super::ask::{Ask, Cost};
use super::budget::{device_memory_left, shown_bytes, Budget};
use super::error::{Error, Result};
use super::free_memory::free_host_memory;
use super::geometry::Geometry;
use super::load::Pipeline;
use crate::checkpoint::Checkpoint;
use crate::nn::{Placement, WeightFormat};
use crate::quants::BlockType;

/// Bytes of a GPU's memory that the handles, workspaces and kernels of cuBLASLt and cuDNN take.
const LIBRARIES: u64 = 512 << 20;

/// The number of a model's parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Those of all parts.
    pub all: u64,
    /// Those in the large matrix products of the transformer's blocks, which fp8 stores in one
    /// byte each.
    pub large: u64,
}

impl Parameters {
    /// Counts the parameters of a checkpoint's parts.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let parts = checkpoint.parts();
        let transformer = checkpoint.transformer.as_ref();
        Self {
            all: parts.iter().map(|(_, part)| part.parameters()).sum(),
            large: transformer.map_or(0, |part| part.config.large_parameters()),
        }
    }

    /// Counts the parameters of a geometry, without the autoencoder's, which are less than a
    /// hundredth of all.
    pub fn of_geometry(geometry: &Geometry) -> Self {
        Self {
            all: geometry.transformer.parameters() + geometry.text_encoder.parameters(),
            large: geometry.transformer.large_parameters(),
        }
    }

    /// Bytes of the weights in a type, with the large products in a format.
    fn bytes(self, weights: DType, products: WeightFormat) -> u64 {
        let size = weights.size_in_bytes() as u64;
        let large = match products {
            WeightFormat::Fp8 => self.large,
            WeightFormat::Dense => self.large * size,
            WeightFormat::Blocks(kind) => {
                self.large.div_ceil(kind.values() as u64) * kind.bytes() as u64
            }
        };
        (self.all - self.large) * size + large
    }

    /// Bytes of the memory of a placement's device that the weights take, with what libraries take
    /// on a GPU.
    pub fn needed(self, placement: &Placement) -> u64 {
        let libraries = if placement.device.is_cpu() {
            0
        } else {
            LIBRARIES
        };
        self.bytes(placement.weights, placement.products) + libraries
    }

    /// Bytes of the memory of a placement's device that the weights take.
    pub fn weights(self, placement: &Placement) -> u64 {
        self.bytes(placement.weights, placement.products)
    }

    /// Checks that the memory of a placement's device has room for the weights.
    ///
    /// # Errors
    /// [`Error::TooLarge`] with the numbers and what would help.
    pub fn check_fit(self, placement: &Placement) -> Result<()> {
        let needed = self.needed(placement);
        let free = match placement.device.is_cpu() {
            true => free_host_memory(),
            false => device_memory_left(&placement.device),
        };
        match free {
            Some(free) if needed > free => Err(Error::TooLarge {
                message: format!(
                    "the model needs {} of {} in {}, and {} is free",
                    shown_bytes(needed),
                    memory_of(&placement.device),
                    placement.precision(),
                    shown_bytes(free)
                ),
                hint: self.smaller_precision(placement, free),
            }),
            _ => Ok(()),
        }
    }

    /// Advice where only `free` bytes are there: a precision that fits, if there is one.
    fn smaller_precision(self, placement: &Placement, free: u64) -> String {
        let on_cpu = placement.device.is_cpu();
        let now = self.bytes(placement.weights, placement.products);
        // Only GPUs compute in fp8.
        let smaller = [
            (WeightFormat::Dense, "bf16"),
            (WeightFormat::Fp8, "fp8"),
            (WeightFormat::Blocks(BlockType::Q8_0), "q8_0"),
            (WeightFormat::Blocks(BlockType::Q4K), "q4_k"),
        ];
        // Beside blocks, a CPU keeps the other weights in float32.
        let bytes = |products| match products {
            WeightFormat::Blocks(_) if on_cpu => self.bytes(DType::F32, products),
            _ => self.bytes(DType::BF16, products),
        };
        let fitting = smaller.into_iter().find(|&(products, _)| {
            let besides = if on_cpu { 0 } else { LIBRARIES };
            bytes(products) < now
                && bytes(products) + besides <= free
                && !(products == WeightFormat::Fp8 && on_cpu)
        });
        match (fitting, on_cpu) {
            (Some((products, name)), _) => {
                format!("--precision {name} takes {}.", shown_bytes(bytes(products)))
            }
            (None, true) => "Close other programs, or use a machine with more memory.".into(),
            (None, false) => "Close what else uses the GPU, or use a larger one.".into(),
        }
    }
}

/// The name of a device's memory in a sentence.
fn memory_of(device: &Device) -> &'static str {
    match device.is_cpu() {
        true => "memory",
        false => "GPU memory",
    }
}

/// A job that needs more memory than there is, even alone. Its text is the predicate that every
/// refusal shares: `needs 12.0 GiB of GPU memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes that the job needs.
    pub needed: u64,
    /// Bytes that there are for it.
    pub there: u64,
    /// Name of the memory, and what for: `memory`, `GPU memory`.
    pub of: &'static str,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "needs {} of {}", shown_bytes(self.needed), self.of)
    }
}

impl Budget {
    /// Checks that a job fits if it runs alone.
    ///
    /// # Errors
    /// [`Shortage`] names the first memory that is too small.
    pub fn check(self, cost: Cost) -> std::result::Result<(), Shortage> {
        let short = |needed: u64, there: Option<u64>, of: &'static str| match there {
            Some(there) if needed > there => Err(Shortage { needed, there, of }),
            _ => Ok(()),
        };
        match self {
            Self::OneMemory(there) => {
                short(cost.host.saturating_add(cost.device()), there, "memory")
            }
            Self::TwoMemories { host, device } => {
                short(cost.host, host, "memory")?;
                short(cost.device(), device, "GPU memory")
            }
        }
    }
}

impl Budget {
    /// [`check`](Self::check) of a job's cost; and on a GPU, for a denoise, that the decode of its
    /// result fits too, so that no image fails after its last step.
    ///
    /// # Errors
    /// [`Shortage`] names the first memory that is too small.
    pub fn check_with_decode(
        self,
        ask: Ask,
        cost: impl Fn(Ask) -> Cost,
    ) -> std::result::Result<(), Shortage> {
        self.check(cost(ask))?;
        let (Ask::Denoise { latent, .. }, Self::TwoMemories { device, .. }) = (ask, self) else {
            return Ok(());
        };
        let needed = cost(Ask::Decode { latent }).device();
        match device {
            Some(there) if needed > there => Err(Shortage {
                needed,
                there,
                of: "GPU memory to decode its result",
            }),
            _ => Ok(()),
        }
    }
}

impl Pipeline {
    /// Checks that a job of this model fits a budget if it runs alone.
    ///
    /// # Errors
    /// [`Error::TooLarge`] with the numbers and the largest similar job that fits.
    pub fn check_fits(&self, budget: Budget, ask: Ask) -> Result<()> {
        let costs = self.costs();
        let fits = |ask: Ask<'_>| budget.check_with_decode(ask, |ask| costs.cost(ask));
        fits(ask).map_err(|shortage| {
            let there = shown_bytes(shortage.there);
            Error::TooLarge {
                message: format!("{} {shortage}, and {there} is free", ask.name()),
                hint: ask
                    .largest_that(|ask| fits(ask).is_ok())
                    .unwrap_or_default(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::CheckpointArgs;

    #[test]
    fn the_large_products_are_nearly_all_of_the_transformer() {
        let geometry = Geometry::ovis_image_7b();
        let found = Parameters::of_geometry(&geometry);
        // 7.37 and 1.72 billion, as the release says.
        assert_eq!(geometry.transformer.parameters() / 10_000_000, 737);
        assert_eq!(geometry.text_encoder.parameters() / 10_000_000, 172);
        assert_eq!(
            found.bytes(DType::BF16, WeightFormat::Dense),
            2 * (geometry.transformer.parameters() + geometry.text_encoder.parameters())
        );
        assert!(
            found.bytes(DType::BF16, WeightFormat::Fp8)
                < found.bytes(DType::BF16, WeightFormat::Dense) * 7 / 10
        );
    }

    #[test]
    fn a_denoise_fits_a_gpu_only_with_its_decode() {
        let request = ovis_protocol::DenoiseRequest::new(0, 20, 5.0);
        let denoise = Ask::Denoise {
            request: &request,
            latent: [1, 16, 32, 32],
            text: 256,
        };
        let cost = |ask: Ask| Cost {
            working: if matches!(ask, Ask::Decode { .. }) {
                8
            } else {
                4
            },
            ..Cost::default()
        };
        let on_gpu = |device| Budget::TwoMemories {
            host: None,
            device: Some(device),
        };
        assert!(on_gpu(8).check_with_decode(denoise, cost).is_ok());
        let shortage = on_gpu(7).check_with_decode(denoise, cost).unwrap_err();
        assert_eq!(
            shortage.to_string(),
            "needs 8 bytes of GPU memory to decode its result"
        );
        let shortage = on_gpu(3).check_with_decode(denoise, cost).unwrap_err();
        assert_eq!(shortage.to_string(), "needs 4 bytes of GPU memory");
        let on_cpu = Budget::OneMemory(Some(7));
        assert!(on_cpu.check_with_decode(denoise, cost).is_ok());
    }

    #[test]
    fn a_geometry_has_the_parameters_of_its_files() {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model");
        let checkpoint = Checkpoint::open(&CheckpointArgs {
            model: Some(demo.into()),
            ..CheckpointArgs::default()
        })
        .unwrap();
        let transformer = checkpoint.transformer.as_ref().unwrap();
        let found = transformer.tensors.parameters();
        assert_eq!(transformer.config.parameters(), found);
        let text_encoder = checkpoint.text_encoder.as_ref().unwrap();
        let found = text_encoder.tensors.parameters();
        assert_eq!(text_encoder.config.parameters(), found);
    }

    #[test]
    fn advice_is_a_precision_that_fits() {
        let parameters = Parameters {
            all: 10 << 30,
            large: 8 << 30,
        };
        let placement = Placement {
            device: Device::Cpu,
            weights: DType::F32,
            products: WeightFormat::Dense,
        };
        let advice = |free_gib: u64| parameters.smaller_precision(&placement, free_gib << 30);
        assert_eq!(advice(30), "--precision bf16 takes 20.0 GiB.");
        assert_eq!(advice(13), "--precision q4_k takes 12.5 GiB.");
        assert!(advice(10).starts_with("Close other programs"));
        let error = Parameters {
            all: 1 << 50,
            large: 0,
        };
        let error = error.check_fit(&placement).unwrap_err().to_string();
        assert!(error.starts_with("the model needs 4096.0 TiB of memory in f32, and "));
        assert!(Parameters::default().check_fit(&placement).is_ok());
    }
}
