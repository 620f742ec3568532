//! Paths that a person names a checkpoint by.

use std::path::PathBuf;

/// Paths of a checkpoint or of its parts, as a person typed them.
#[derive(Clone, Debug, Default)]
pub struct CheckpointArgs {
    /// A diffusers folder, the original release's folder, a ComfyUI `models`
    /// folder, a repository in Hugging Face's cache or its name, or one part.
    pub model: Option<PathBuf>,
    /// The transformer's file or folder, in place of the one that `model` has.
    pub transformer: Option<PathBuf>,
    /// The text encoder's file or folder, in place of the one that `model` has.
    pub text_encoder: Option<PathBuf>,
    /// The VAE's file or folder, in place of the one that `model` has.
    pub vae: Option<PathBuf>,
    /// The tokenizer's folder or file, in place of the one that is found.
    pub tokenizer: Option<PathBuf>,
}

impl CheckpointArgs {
    /// Whether no path is given.
    pub fn is_empty(&self) -> bool {
        let named = [
            &self.model,
            &self.transformer,
            &self.text_encoder,
            &self.vae,
            &self.tokenizer,
        ];
        named.into_iter().all(Option::is_none)
    }
}
