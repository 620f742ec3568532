//! Warm-up: the one-time work of a GPU, done before the first job.

use ovis_protocol::DenoiseRequest;

use super::error::{Error, Result};
use super::load::Pipeline;
use super::prompt::PREFIX_POSITIONS;
use super::types::{Conditioning, DenoiseInputs, Latent};

/// A prompt of medium length: its number of tokens with the template, and the positions of its
/// conditioning.
const PROMPT: (usize, usize) = (PREFIX_POSITIONS + 80, 256);

impl Pipeline {
    /// Runs every loaded part once at the model's native size. On a GPU this loads kernels, lets
    /// cuDNN and cuBLASLt choose theirs, and reserves the memory of an image. On a CPU it does
    /// nothing, because there is nothing to prepare.
    ///
    /// # Errors
    /// The device fails, or has too little memory for an image of that size.
    pub fn warm_up(&self) -> Result<()> {
        if self.placement().device.is_cpu() {
            return Ok(());
        }
        let (tokens, positions) = PROMPT;
        let ids: Vec<u32> = (0..tokens as u32).collect();
        let encoded = present(self.encode_ids(&[&ids], positions))?;
        let side = self.native_size() / 8;
        let shape = [1, self.latent_channels().unwrap_or(16), side, side];
        let latent = Latent::from_values(vec![0.0; shape.iter().product()], &shape)?;
        if let Some(denoiser) = present(self.denoiser())? {
            let width = denoiser.config().context_dim;
            let zeros =
                || Conditioning::from_values(vec![0.0; positions * width], &[1, positions, width]);
            let conditioning = encoded.map_or_else(zeros, Ok)?;
            let inputs = DenoiseInputs {
                positive: conditioning.clone(),
                negative: Some(conditioning),
                latent: latent.clone(),
                noise_mask: None,
            };
            let mut job = self.start_denoise(&DenoiseRequest::new(0, 1, 5.0), inputs)?;
            job.step(denoiser)?;
            job.finish()?;
        }
        present(self.decode(&latent))?;
        Ok(())
    }
}

/// The result of a part, or `None` if the part is not loaded.
fn present<T>(made: Result<T>) -> Result<Option<T>> {
    match made {
        Ok(made) => Ok(Some(made)),
        Err(Error::MissingPart { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
