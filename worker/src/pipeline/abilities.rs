//! What a model can do, by the parts that it has.

use ovis_protocol::{Capabilities, PreviewKind};

use super::preview;
use super::types::SIZE_MULTIPLE;
use crate::nn::Placement;
use crate::sampling::{Scheduler, SAMPLERS};

/// Most pixels of one job: a batch of sixteen images of 2048 x 2048.
const MAX_PIXELS: u64 = 16 * 2048 * 2048;

/// What follows from the parts that a checkpoint has.
pub(super) struct Abilities {
    /// Whether it has a text encoder and a tokenizer.
    pub encodes: bool,
    /// Whether it has a transformer.
    pub denoises: bool,
    /// Whether it has a VAE.
    pub decodes: bool,
    /// Whether the VAE has an encoder.
    pub encodes_images: bool,
    /// Width of a conditioning, with a transformer or a text encoder.
    pub conditioning_width: Option<usize>,
    /// Channels of a latent, with a transformer or a VAE.
    pub latent_channels: Option<usize>,
}

impl Abilities {
    /// Names of the operations for which there are all parts.
    pub fn operations(&self) -> Vec<&'static str> {
        [
            ("encode", self.encodes),
            ("denoise", self.denoises),
            ("decode", self.decodes),
            ("vae-encode", self.encodes_images),
        ]
        .into_iter()
        .filter_map(|(name, available)| available.then_some(name))
        .collect()
    }

    /// Kinds of preview for which there are all parts.
    pub fn previews(&self) -> Vec<PreviewKind> {
        let linear = self.latent_channels == Some(preview::CHANNELS);
        [
            (PreviewKind::Linear, linear),
            (PreviewKind::Vae, self.decodes),
        ]
        .into_iter()
        .filter_map(|(kind, available)| available.then_some(kind))
        .collect()
    }

    /// What clients are told of a model of this name. Which models there are is the device's
    /// matter.
    pub fn capabilities(&self, model: &str, placement: &Placement) -> Capabilities {
        let previews = self.previews().into_iter();
        Capabilities {
            operations: self.operations().into_iter().map(str::to_owned).collect(),
            samplers: SAMPLERS.iter().map(|&s| s.to_owned()).collect(),
            model: model.to_owned(),
            device: placement.device_name(),
            precision: placement.precision().to_owned(),
            latent_channels: self.latent_channels.unwrap_or(0) as u32,
            conditioning_width: self.conditioning_width.unwrap_or(0) as u32,
            size_multiple: SIZE_MULTIPLE as u32,
            max_pixels: MAX_PIXELS,
            schedulers: Scheduler::ALL.map(|s| s.name().to_owned()).to_vec(),
            previews: previews.map(|kind| kind.name().to_owned()).collect(),
            models: Vec::new(),
        }
    }
}
