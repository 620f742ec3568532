//! Arguments that select the model and the device.

use std::path::{Path, PathBuf};

use candle_core::Device;
use clap::Args;

use super::error::CliError;
use super::precision::Precision;
use super::values::{auto_or_bytes, parsed, AutoOrBytes};
use crate::checkpoint::{Checkpoint, CheckpointArgs, WeightsError};
use crate::nn::{check_fp8, check_gpu, keep_freed_memory, NoGpu, Placement};
use crate::text::first_line;

/// Which checkpoint files to load.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// The checkpoint: a diffusers folder, the original release's folder, a ComfyUI `models`
    /// folder, a repository in Hugging Face's cache or its name (nothing is ever
    /// downloaded), or a single file. If no argument names a file, `serve`, `generate` and
    /// `bench` use the small demo model, provided that it is installed.
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// File or folder of the transformer, in place of the one in --model.
    #[arg(long, value_name = "F")]
    pub transformer: Option<PathBuf>,
    /// File or folder of the text encoder, in place of the one in --model.
    #[arg(long, value_name = "F")]
    pub text_encoder: Option<PathBuf>,
    /// File or folder of the VAE, in place of the one in --model.
    #[arg(long, value_name = "F")]
    pub vae: Option<PathBuf>,
    /// File or folder of the tokenizer, in place of the one found with the checkpoint.
    #[arg(long, value_name = "F")]
    pub tokenizer: Option<PathBuf>,
}

impl ModelArgs {
    /// The files to open, or the demo model if no argument names any.
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

    /// Opens the named checkpoint, or the demo model if no argument names any. With `or_demo`, also
    /// if the named one has no transformer, which `say` is told.
    ///
    /// # Errors
    /// A file cannot be read as a checkpoint.
    pub fn open_or_demo(
        &self,
        or_demo: bool,
        say: impl Fn(&str),
    ) -> Result<Checkpoint, WeightsError> {
        let opened = Checkpoint::open(&self.checkpoint_or_demo());
        let lacks_transformer = match &opened {
            Ok(checkpoint) => checkpoint.transformer.is_none(),
            Err(error) => matches!(error, WeightsError::Nothing { .. }),
        };
        match demo_model().filter(|_| or_demo && lacks_transformer) {
            None => opened,
            Some(demo) => {
                let folder = self.model.as_deref().unwrap_or(Path::new("")).display();
                say(&format!(
                    "`{folder}` has no transformer of Ovis-Image: the demo model is used"
                ));
                if let Ok(found) = &opened {
                    found.skipped.iter().for_each(|file| say(&file.reason));
                }
                Checkpoint::open(&CheckpointArgs {
                    model: Some(demo),
                    ..CheckpointArgs::default()
                })
            }
        }
    }

    /// The files to open.
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

/// Folder of the demo model: beside the program, where a Python package installs it, or in the
/// repository that the program was built from.
fn demo_model() -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    installed_demo_models(program.as_deref())
        .into_iter()
        .chain([Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model")])
        .find(|folder| folder.join("model_index.json").is_file())
}

/// Where an installed program's demo model can be: `demo-model` in its own folder, or
/// `share/ovis-worker/demo-model` beside that folder (`bin` or `Scripts` of a Python environment).
fn installed_demo_models(program: Option<&Path>) -> Vec<PathBuf> {
    let Some(folder) = program.and_then(Path::parent) else {
        return Vec::new();
    };
    let shared = folder
        .parent()
        .map(|prefix| prefix.join("share/ovis-worker"));
    [Some(folder), shared.as_deref()]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("demo-model"))
        .collect()
}

/// Which device and precision to compute with.
#[derive(Clone, Debug, Args)]
pub struct DeviceArgs {
    /// Device: cpu, cuda or cuda:I. The default is the first GPU, or the CPU if there is none.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Precision of weights and arithmetic. The default is bf16 on a GPU and f32 on a CPU.
    #[arg(long, value_enum, ignore_case = true, alias = "dtype")]
    pub precision: Option<Precision>,
    /// Host memory that jobs may use, such as 12GiB. Jobs that need more are refused, and
    /// images are decoded in bands to stay within it. `auto` is the memory that is free after
    /// the model is loaded.
    #[arg(
        long,
        value_name = "auto|SIZE",
        env = "OVIS_WORKER_MEMORY",
        default_value = "auto",
        value_parser = parsed(auto_or_bytes),
        allow_hyphen_values = true
    )]
    memory: AutoOrBytes,
}

/// Checks that a device can compute in a precision.
///
/// # Errors
/// It cannot; the text names what can.
pub fn check_precision(precision: Precision, device: &Device) -> Result<(), CliError> {
    if precision != Precision::Fp8 {
        return Ok(());
    }
    check_fp8(device).map_err(|found| {
        CliError::new(
            format!(
                "--precision fp8 takes an NVIDIA GPU of compute capability 8.9 or newer, and this \
                 is {found}: use --precision bf16"
            ),
            match check_gpu(0) {
                Ok(()) => "--device names the GPU to use.",
                Err(reason) => reason.hint(),
            },
        )
    })
}

impl DeviceArgs {
    /// Host memory for jobs in bytes; `None` is the memory that is free after loading.
    pub fn host_memory(&self) -> Option<u64> {
        self.memory.0
    }

    /// Opens the device and selects the precision. Without `--device`, `say` receives a sentence
    /// if a program with GPU support has to use the CPU.
    ///
    /// # Errors
    /// The name is not that of a device, the GPU cannot be used or opened, or the device does not
    /// support the precision.
    pub fn placement(&self, say: impl Fn(&str)) -> Result<Placement, CliError> {
        let device = self.open(say)?;
        let precision = match (self.precision, device.is_cpu()) {
            (Some(precision), _) => precision,
            (None, true) => Precision::F32,
            (None, false) => Precision::Bf16,
        };
        check_precision(precision, &device)?;
        Ok(precision.placed(device))
    }

    fn open(&self, say: impl Fn(&str)) -> Result<Device, CliError> {
        let cuda = |ordinal: usize| {
            check_gpu(ordinal)
                .map_err(|reason| CliError::new(reason.to_string(), reason.hint()))?;
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
            None => match check_gpu(0) {
                Ok(()) => cuda(0),
                Err(reason) => {
                    if !matches!(reason, NoGpu::NotBuilt) {
                        say(&format!("no GPU is used: {reason}. {}", reason.hint()));
                    }
                    Ok(Device::Cpu)
                }
            },
            Some("cpu") => Ok(Device::Cpu),
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

#[cfg(test)]
mod tests {
    #[cfg(not(feature = "cuda"))]
    use clap::Parser;

    use super::*;

    #[cfg(not(feature = "cuda"))]
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        device: DeviceArgs,
    }

    #[test]
    fn an_installed_demo_model_is_beside_the_program_or_in_its_prefix() {
        let program = Path::new("/env/bin/ovis-worker");
        let folders = ["/env/bin/demo-model", "/env/share/ovis-worker/demo-model"];
        assert_eq!(
            installed_demo_models(Some(program)),
            folders.map(PathBuf::from)
        );
        assert!(installed_demo_models(None).is_empty());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_gpu_takes_a_program_that_is_built_for_it() {
        for name in ["cuda", "cuda:1"] {
            let line = Line::parse_from(["x", "--device", name]);
            let refusal = format!("{:?}", line.device.placement(|_| ()).unwrap_err());
            assert!(refusal.contains("built without GPU support"), "{refusal}");
            for way in [
                "`pip install ovis-worker-bin`",
                "`worker/cuda-toolchain build`",
            ] {
                assert!(refusal.contains(way), "{refusal}");
            }
            assert!(!refusal.contains("candle"), "{refusal}");
        }
    }
}
