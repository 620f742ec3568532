//! The arguments of `bench`.

use clap::Args;
use ovis_protocol::DenoiseRequest;

use super::source::NamedGeometry;
use crate::cli::model_args::{DeviceArgs, ModelArgs};
use crate::cli::shortcut_args::ShortcutArgs;
use crate::cli::values::{number, parsed, side, speed, whole, whole_within};
use crate::pipeline::parse_bytes;

/// Text tokens of a conditioning: the length that the reference implementation pads prompts to.
pub const TEXT_POSITIONS: usize = 256;

/// Most images of a run, and most warm-up images.
const MAX_IMAGES: u32 = 100_000;

/// What to measure.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Use random weights of this geometry instead of a checkpoint.
    #[arg(long, value_enum, value_name = "GEOMETRY", conflicts_with = "model")]
    pub random_weights: Option<NamedGeometry>,
    /// Width in pixels, a multiple of 16. The default is the model's native size.
    #[arg(long, value_name = "W", value_parser = side(), allow_hyphen_values = true)]
    pub width: Option<usize>,
    /// Height in pixels, a multiple of 16. The default is the model's native size.
    #[arg(long, value_name = "H", value_parser = side(), allow_hyphen_values = true)]
    pub height: Option<usize>,
    /// Number of denoising steps per image, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = whole::<u32>(), allow_hyphen_values = true)]
    pub steps: u32,
    /// Guidance (CFG) scale. 1 turns guidance off: one forward pass a step instead of two.
    #[arg(long, value_name = "X", default_value_t = 5.0, value_parser = number(), allow_hyphen_values = true)]
    pub cfg: f64,
    #[command(flatten)]
    pub shortcuts: ShortcutArgs,
    /// Number of images to measure.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = whole_within(1, MAX_IMAGES), allow_hyphen_values = true)]
    pub repeats: u32,
    /// Number of images to make before the measured ones.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole_within(0, MAX_IMAGES), allow_hyphen_values = true)]
    pub warmup: u32,
    /// Also measure each operation of the transformer separately.
    #[arg(long)]
    pub parts: bool,
    /// Most GPU memory that the process may take, such as 12GiB. With several, separated by commas,
    /// each is measured by a process of its own beside one without a budget, and a table compares
    /// them.
    #[arg(long, value_name = "SIZE[,SIZE..]", value_delimiter = ',', value_parser = parsed(parse_bytes))]
    pub vram: Vec<u64>,
    /// Most bytes a second that weights stream at, such as 12G, to measure what a slower link costs.
    #[arg(long, value_name = "SPEED", value_parser = parsed(speed))]
    pub link: Option<f64>,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}

impl BenchArgs {
    /// The denoise request of one image.
    pub fn request(&self) -> DenoiseRequest {
        self.shortcuts
            .applied(DenoiseRequest::new(0, self.steps, self.cfg))
    }
}
