//! What the jobs of an image take of a GPU's memory beside the weights.

use ovis_protocol::limits::MAX_TENSOR_BYTES;
use ovis_protocol::DenoiseRequest;
use serde::Serialize;

use crate::checkpoint::{MmditConfig, Qwen3Config};
use crate::models::vae::VaeMemory;
use crate::nn::BlockPath;
use crate::pipeline::ask::Ask;
use crate::pipeline::costs::Costs;
use crate::pipeline::prompt::{MAX_CUT_LENGTH, PREFIX_POSITIONS};

/// Images that are made together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Number of images.
    pub batch: usize,
    /// Whether there is guidance, and so a second branch.
    pub is_guided: bool,
}

impl Target {
    /// One image with guidance.
    pub fn image(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            batch: 1,
            is_guided: true,
        }
    }

    /// Whether the images together are no larger than a result may be.
    pub(super) fn can_be_sent(self) -> bool {
        let pixels = self.batch as u64 * self.width as u64 * self.height as u64;
        pixels.saturating_mul(3 * size_of::<f32>() as u64) <= MAX_TENSOR_BYTES
    }
}

/// What the jobs of an image take, in bytes, one after the other.
#[derive(Clone, Debug)]
pub struct Working {
    /// Encoding one prompt.
    pub encode: u64,
    /// A denoise job: what it keeps between two steps, and a step.
    pub denoise: u64,
    /// The ways to split a decode, the fastest first: in words, and their bytes. Empty without a
    /// VAE.
    pub decodes: Vec<(String, u64)>,
}

impl Working {
    /// Bytes that suffice for every job, if `vae` bytes of weights are loaded for the decode alone.
    pub fn least(&self, vae: u64) -> u64 {
        let decode = self.decodes.iter().map(|(_, bytes)| bytes + vae).min();
        self.encode.max(self.denoise).max(decode.unwrap_or(0))
    }
}

/// Estimates of a model's jobs on a GPU.
#[derive(Clone)]
pub struct Requests {
    costs: Costs,
    text_encoder: Option<Qwen3Config>,
    latent_channels: usize,
    vae: Option<VaeMemory>,
}

impl Requests {
    /// For a model of these parts, whose values have `value` bytes.
    pub(super) fn new(
        transformer: Option<&MmditConfig>,
        text_encoder: Option<&Qwen3Config>,
        vae: Option<&VaeMemory>,
        path: BlockPath,
        value: u64,
    ) -> Self {
        Self {
            costs: Costs::of_shapes(transformer.cloned(), vae.cloned(), path, value),
            text_encoder: text_encoder.cloned(),
            latent_channels: transformer.map_or(16, |config| config.in_channels / 4),
            vae: vae.cloned(),
        }
    }

    /// What the jobs of a target take.
    pub fn working(&self, target: Target) -> Working {
        let (rows, columns) = (target.height / 8, target.width / 8);
        let cfg = if target.is_guided { 5.0 } else { 1.0 };
        let request = DenoiseRequest::new(0, 1, cfg);
        let denoise = self.costs.cost(Ask::Denoise {
            request: &request,
            latent: [target.batch, self.latent_channels, rows, columns],
            text: MAX_CUT_LENGTH,
        });
        let encode = self.text_encoder.as_ref().map_or(0, |config| {
            let positions = PREFIX_POSITIONS + MAX_CUT_LENGTH;
            self.costs.encoded(config, 1, positions).device()
        });
        let decodes = self.vae.as_ref().map_or_else(Vec::new, |vae| {
            vae.decode_plans(target.batch, (rows, columns))
        });
        Working {
            encode,
            denoise: denoise.device(),
            decodes,
        }
    }
}
