//! What a loaded pipeline can do, as clients are told.

use ovis_protocol::Capabilities;

use super::load::Pipeline;
use super::types::SIZE_MULTIPLE;
use crate::sampling::{Scheduler, SAMPLERS};

/// Most pixels of one job: a batch of sixteen images of 2048 x 2048.
const MAX_PIXELS: u64 = 16 * 2048 * 2048;

impl Pipeline {
    /// What the loaded checkpoint can do: its operations, models, limits and samplers.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            operations: self.operations().into_iter().map(str::to_owned).collect(),
            samplers: SAMPLERS.iter().map(|&s| s.to_owned()).collect(),
            model: self.name().to_owned(),
            device: self.placement().device_name(),
            precision: self.placement().precision().to_owned(),
            latent_channels: self.latent_channels().unwrap_or(0) as u32,
            conditioning_width: self.conditioning_width().unwrap_or(0) as u32,
            size_multiple: SIZE_MULTIPLE as u32,
            max_pixels: MAX_PIXELS,
            schedulers: Scheduler::ALL.map(|s| s.name().to_owned()).to_vec(),
            previews: self
                .previews()
                .into_iter()
                .map(|kind| kind.name().to_owned())
                .collect(),
            // Their names are the device's matter.
            models: Vec::new(),
        }
    }
}
