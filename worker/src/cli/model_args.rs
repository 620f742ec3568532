//! Arguments that say which model to load, and where to.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use clap::{Args, ValueEnum};

use super::values::parsed;
use super::CliError;
use crate::checkpoint::CheckpointArgs;
use crate::nn::{check_fp8, keep_freed_memory, Placement, WeightFormat};
use crate::pipeline::parse_bytes;
use crate::text::first_line;

/// Which files to load.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// A diffusers folder, the original release's folder, a ComfyUI `models`
    /// folder, a repository in Hugging Face's cache or its name (nothing is ever
    /// downloaded), or a single file. When nothing is named, `serve` and `generate`
    /// use the small demo model where it is installed.
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// The transformer's file or folder, instead of what --model has.
    #[arg(long, value_name = "F")]
    pub transformer: Option<PathBuf>,
    /// The text encoder's file or folder, instead of what --model has.
    #[arg(long, value_name = "F")]
    pub text_encoder: Option<PathBuf>,
    /// The VAE's file or folder, instead of what --model has.
    #[arg(long, value_name = "F")]
    pub vae: Option<PathBuf>,
    /// The tokenizer's file or folder, instead of what is found.
    #[arg(long, value_name = "F")]
    pub tokenizer: Option<PathBuf>,
}

impl ModelArgs {
    /// As the weights room takes them; the demo model when nothing is named.
    pub fn checkpoint_or_demo(&self) -> CheckpointArgs {
        let named = self.checkpoint();
        match named.is_empty() {
            true => CheckpointArgs {
                model: demo_model(),
                ..named
            },
            false => named,
        }
    }

    /// As the weights room takes them.
    pub fn checkpoint(&self) -> CheckpointArgs {
        CheckpointArgs {
            model: self.model.clone(),
            transformer: self.transformer.clone(),
            text_encoder: self.text_encoder.clone(),
            vae: self.vae.clone(),
            tokenizer: self.tokenizer.clone(),
        }
    }
}

/// The demo model that comes with the source: beside the program, or in the
/// repository it was built from.
fn demo_model() -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.join("demo-model")));
    let in_repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model");
    beside
        .into_iter()
        .chain([in_repository])
        .find(|folder| folder.join("model_index.json").is_file())
}

/// Where to load it.
#[derive(Clone, Debug, Args)]
pub struct DeviceArgs {
    /// cpu, cuda or cuda:I; the first GPU if there is one, else the CPU.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Type of weights and arithmetic: bf16 on a GPU and f32 on a CPU unless named.
    #[arg(long, value_enum, alias = "dtype")]
    pub precision: Option<Precision>,
    /// Host memory for jobs, such as 12GiB: larger ones are refused, and decoding goes in parts
    /// to stay within it. `auto` is what the machine has left once the model is loaded.
    #[arg(
        long,
        value_name = "auto|SIZE",
        env = "OVIS_WORKER_MEMORY",
        default_value = "auto",
        value_parser = parsed(host_memory),
        allow_hyphen_values = true
    )]
    memory: HostMemory,
}

/// The `--memory` argument: bytes, or `None` for what is left.
#[derive(Clone, Copy, Debug)]
struct HostMemory(Option<u64>);

/// Blank, as an environment variable may be, is `auto`.
fn host_memory(text: &str) -> Result<HostMemory, String> {
    match text.trim() {
        "" | "auto" => Ok(HostMemory(None)),
        text => parse_bytes(text).map(|bytes| HostMemory(Some(bytes))),
    }
}

/// Types of weights and arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// Float32.
    F32,
    /// bfloat16; on a CPU for storage only.
    Bf16,
    /// bfloat16, and 8-bit floats for the large products of the transformer and, from compute
    /// capability 9.0 on, its attention: faster and smaller, a little less exact. For NVIDIA
    /// GPUs of compute capability 8.9 and newer.
    Fp8,
}

/// What to do about a GPU that this program cannot use.
const NO_GPU_SUPPORT: &str = "In a clone of its repository, `worker/cuda-toolchain build` makes \
     one with GPU support.";

impl DeviceArgs {
    /// Bytes of host memory for jobs, where they were named.
    pub fn host_memory(&self) -> Option<u64> {
        self.memory.0
    }

    /// Opens the device.
    ///
    /// # Errors
    /// The name is not a device, or the device cannot be opened or has no such precision.
    pub fn placement(&self) -> Result<Placement, CliError> {
        let device = self.open()?;
        let precision = match (self.precision, device.is_cpu()) {
            (Some(precision), _) => precision,
            (None, true) => Precision::F32,
            (None, false) => Precision::Bf16,
        };
        if precision == Precision::Fp8 {
            check_fp8(&device).map_err(|found| {
                CliError::new(
                    format!(
                        "--precision fp8 takes an NVIDIA GPU of compute capability 8.9 or newer, \
                         and this is {found}: use --precision bf16"
                    ),
                    match cfg!(feature = "cuda") {
                        true => "--device names the GPU to use.",
                        false => NO_GPU_SUPPORT,
                    },
                )
            })?;
        }
        Ok(Placement {
            device,
            weights: match precision {
                Precision::F32 => DType::F32,
                Precision::Bf16 | Precision::Fp8 => DType::BF16,
            },
            products: match precision {
                Precision::F32 | Precision::Bf16 => WeightFormat::Dense,
                Precision::Fp8 => WeightFormat::Fp8,
            },
        })
    }

    fn open(&self) -> Result<Device, CliError> {
        let cuda = |ordinal: usize| {
            if !candle_core::utils::cuda_is_available() {
                return Err(CliError::new(
                    "this ovis-worker was built without GPU support",
                    format!("Use --device cpu. {NO_GPU_SUPPORT}"),
                ));
            }
            let opened = Device::new_cuda(ordinal);
            let kept = opened.and_then(|device| keep_freed_memory(&device).map(|()| device));
            kept.map_err(|e| {
                CliError::new(
                    format!("GPU {ordinal} cannot be opened: {}", first_line(&e)),
                    "nvidia-smi lists the GPUs of this machine.",
                )
            })
        };
        match self.device.as_deref() {
            None if candle_core::utils::cuda_is_available() => cuda(0),
            None | Some("cpu") => Ok(Device::Cpu),
            Some("cuda") => cuda(0),
            Some(name) => {
                let ordinal = name.strip_prefix("cuda:").and_then(|i| i.parse().ok());
                cuda(ordinal.ok_or_else(|| {
                    CliError::new(
                        format!("`{name}` is not a device"),
                        "Use cpu, cuda or cuda:I.",
                    )
                })?)
            }
        }
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        device: DeviceArgs,
    }

    #[test]
    fn a_gpu_takes_a_program_that_is_built_for_it() {
        for name in ["cuda", "cuda:1"] {
            let line = Line::parse_from(["x", "--device", name]);
            let refusal = format!("{:?}", line.device.placement().unwrap_err());
            assert!(refusal.contains("built without GPU support"), "{refusal}");
            let hint = "`worker/cuda-toolchain build` makes one with GPU support.";
            assert!(refusal.contains(hint), "{refusal}");
            assert!(!refusal.contains("candle"), "{refusal}");
        }
    }
}
