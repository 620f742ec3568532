//! Names of a checkpoint's parts in messages.

/// The diffusion transformer.
pub(super) const TRANSFORMER: &str = "transformer";
/// The language model that encodes prompts.
pub(super) const TEXT_ENCODER: &str = "text encoder";
/// The autoencoder between pixels and latents.
pub(super) const VAE: &str = "VAE";
