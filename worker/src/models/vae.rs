//! FLUX.1's autoencoder.
//!
//! Source: AIDC-AI/Ovis-Image `ovis_image/model/autoencoder.py`.

/// Geometry of the autoencoder, and how its latents are normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Channels at each level, from full resolution down: (128, 256, 512, 512).
    pub block_channels: Vec<usize>,
    /// Residual blocks a level in the encoder; the decoder has one more: 2.
    pub layers_per_block: usize,
    /// Latent channels: 16.
    pub latent_channels: usize,
    /// Groups of the group norms: 32.
    pub norm_groups: usize,
    /// The model sees `(latent - shift_factor) * scaling_factor`: 0.3611.
    pub scaling_factor: f64,
    /// 0.1159.
    pub shift_factor: f64,
}
