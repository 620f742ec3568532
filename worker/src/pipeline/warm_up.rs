//! What would make the first job slow, done before it comes.

use ovis_protocol::DenoiseRequest;

use super::error::{Error, Result};
use super::load::Pipeline;
use super::prompt::PREFIX_POSITIONS;
use super::types::{Conditioning, DenoiseInputs, Latent};

/// Tokens of a prompt of middling length, the template's included, and positions of its
/// conditioning.
const PROMPT: (usize, usize) = (PREFIX_POSITIONS + 80, 256);

impl Pipeline {
    /// Runs every part that is loaded once, at the model's native size. On a GPU that loads
    /// kernels, has cuDNN and cuBLASLt choose theirs, and takes the memory of an image; a CPU
    /// has nothing to prepare.
    ///
    /// # Errors
    /// The device fails.
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

/// What a part made, or nothing where it was not loaded.
fn present<T>(made: Result<T>) -> Result<Option<T>> {
    match made {
        Ok(made) => Ok(Some(made)),
        Err(Error::MissingPart { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
