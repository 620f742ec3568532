//! The arguments of `generate`.

use std::path::PathBuf;

use clap::Args;
use ovis_protocol::{DenoiseRequest, Schedule};

use crate::cli::adapter_args::AdapterArgs;
use crate::cli::model_args::{DeviceArgs, ModelArgs};
use crate::cli::shortcut_args::ShortcutArgs;
use crate::cli::values::{number, parsed, side, text, whole, whole_within, ValueError};
use crate::cli::vram_args::VramArgs;

/// Largest batch.
const MAX_BATCH: usize = 1024;

/// Which images to make, with which model, and where to write them.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub vram: VramArgs,
    /// Prompt: a description of the image.
    #[arg(long, value_name = "TEXT", value_parser = text(), allow_hyphen_values = true)]
    pub prompt: String,
    /// Negative prompt: a description of what guidance steers away from.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        value_parser = text(),
        allow_hyphen_values = true
    )]
    pub negative: String,
    /// Width in pixels, a multiple of 16. The default is the model's native size.
    #[arg(long, value_name = "W", value_parser = side(), allow_hyphen_values = true)]
    pub width: Option<usize>,
    /// Height in pixels, a multiple of 16. The default is the model's native size.
    #[arg(long, value_name = "H", value_parser = side(), allow_hyphen_values = true)]
    pub height: Option<usize>,
    /// Number of denoising steps, 1 to 1000. More steps: slower, more detail.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        value_parser = whole::<u32>(),
        allow_hyphen_values = true
    )]
    pub steps: u32,
    /// Guidance (CFG) scale, 0 to 100. 1 turns guidance off, which nearly halves the time.
    #[arg(
        long,
        value_name = "X",
        default_value_t = 5.0,
        value_parser = number(),
        allow_hyphen_values = true
    )]
    pub cfg: f64,
    /// Seed of the initial noise, 0 to 2^64 - 1, with the meaning it has in torch.manual_seed.
    #[arg(
        long,
        value_name = "K",
        default_value_t = 0,
        value_parser = parsed(parse_seed),
        allow_hyphen_values = true
    )]
    pub seed: u64,
    /// Number of images. Their noise is one draw with one seed, as in a ComfyUI batch.
    #[arg(
        long,
        value_name = "B",
        default_value_t = 1,
        value_parser = whole_within(1, MAX_BATCH),
        allow_hyphen_values = true
    )]
    pub batch: usize,
    /// Shift of the sigma schedule: a constant, or auto for the model's own, which depends on
    /// the image size.
    #[arg(
        long,
        value_name = "auto|X",
        default_value = "auto",
        value_parser = parsed(parse_shift),
        allow_hyphen_values = true
    )]
    pub shift: Shift,
    /// Solver, with its name in ComfyUI: euler, euler_ancestral, heun, dpm_2, dpmpp_2m,
    /// dpmpp_2m_sde, dpmpp_sde, res_multistep, uni_pc, lms, ddim.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "euler",
        value_parser = text(),
        allow_hyphen_values = true
    )]
    pub sampler: String,
    /// Sigma schedule: flux (the model's own), or one of ComfyUI's: simple, normal,
    /// sgm_uniform, ddim_uniform, karras, exponential, beta, linear_quadratic, kl_optimal.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "flux",
        value_parser = text(),
        allow_hyphen_values = true
    )]
    pub scheduler: String,
    #[command(flatten)]
    pub shortcuts: ShortcutArgs,
    #[command(flatten)]
    pub adapters: AdapterArgs,
    /// Maximum prompt length in tokens. Up to 256, longer prompts are truncated; with a
    /// larger value nothing is truncated.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 256,
        value_parser = whole::<u32>(),
        allow_hyphen_values = true
    )]
    pub max_sequence_length: u32,
    /// The file to write. Its suffix selects the format: .png, .jpg or .jpeg (lossy, quality
    /// 95), .webp (lossless). The files of a batch are numbered before the suffix.
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub out: PathBuf,
    /// Also write the latents, as the tensor `latents`, f32 `[B, 16, H/8, W/8]`.
    #[arg(long, value_name = "FILE.safetensors", allow_hyphen_values = true)]
    pub latents_out: Option<PathBuf>,
}

impl GenerateArgs {
    /// The denoise request that these arguments describe.
    pub fn request(&self) -> DenoiseRequest {
        DenoiseRequest {
            sampler: self.sampler.clone(),
            schedule: Schedule::Named(self.scheduler.clone()),
            shift: match self.shift {
                Shift::Auto => None,
                Shift::Constant(shift) => Some(shift),
            },
            ..self
                .shortcuts
                .applied(DenoiseRequest::new(self.seed, self.steps, self.cfg))
        }
    }
}

/// The `--shift` argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shift {
    /// The model's own shift, which depends on the number of image tokens.
    Auto,
    /// The same shift for every size.
    Constant(f64),
}

fn parse_shift(text: &str) -> Result<Shift, ValueError> {
    match text {
        "auto" => Ok(Shift::Auto),
        _ => text
            .parse()
            .map(Shift::Constant)
            .map_err(|_| ValueError::NotShift),
    }
}

fn parse_seed(text: &str) -> Result<u64, ValueError> {
    text.parse().map_err(|_| ValueError::NotSeed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_auto_or_a_number() {
        assert_eq!(parse_shift("auto"), Ok(Shift::Auto));
        assert_eq!(parse_shift("3"), Ok(Shift::Constant(3.0)));
        for text in ["", "Auto", "１"] {
            assert_eq!(parse_shift(text), Err(ValueError::NotShift), "{text}");
        }
    }

    #[test]
    fn every_64_bit_number_is_a_seed() {
        assert_eq!(parse_seed("18446744073709551615"), Ok(u64::MAX));
        for text in ["-1", "18446744073709551616", ""] {
            assert_eq!(parse_seed(text), Err(ValueError::NotSeed), "{text}");
        }
    }
}
