//! A model for tests that ask nothing of its name or its operations.

use ovis_protocol::Capabilities;

/// What such a model can do: latents of 16 channels, conditionings 8 wide.
pub fn capabilities() -> Capabilities {
    Capabilities {
        operations: Vec::new(),
        samplers: Vec::new(),
        model: String::new(),
        device: String::new(),
        precision: String::new(),
        latent_channels: 16,
        conditioning_width: 8,
        size_multiple: 16,
        max_pixels: 1 << 22,
        schedulers: Vec::new(),
        previews: Vec::new(),
        models: Vec::new(),
    }
}
