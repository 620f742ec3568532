//! What the engine asks of a model, and nothing more.

use std::sync::Arc;

use ovis_protocol::{Capabilities, DenoiseRequest, EncodeRequest, PromptCut};

use super::admission::{Free, JobCosts};
use crate::pipeline::{
    Budget, Conditioning, DenoiseInputs, Forwards, Image, Latent, Preview, Result, StepReport,
};

/// A loaded model. It lives and dies on the engine's device thread, so it need
/// not be `Send`; a panic in any method fails the job, not the engine.
pub trait Backend: 'static {
    /// State of one denoise job between two steps.
    type Denoise;

    /// What the loaded checkpoint can do.
    fn capabilities(&self) -> Capabilities;

    /// Prompts to conditioning `[B, T, D]`, and what was cut from them.
    ///
    /// # Errors
    /// A value is out of range, a part is missing, or the device failed; so
    /// for every method.
    fn encode(&mut self, request: &EncodeRequest) -> Result<(Conditioning, Vec<PromptCut>)>;

    /// Makes the state of a denoise job: schedule, noise, first latent.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn start_denoise(
        &mut self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
    ) -> Result<Self::Denoise>;

    /// Runs one step. A job without steps reports 0 of 0.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn step(&mut self, job: &mut Self::Denoise) -> Result<StepReport>;

    /// The forwards of the transformer in a job's steps so far.
    fn forwards(&self, job: &Self::Denoise) -> Forwards;

    /// What a job's image looks like, where its request wants to see it.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn preview(&mut self, job: &Self::Denoise) -> Result<Option<Preview>>;

    /// The latent `[B, C, H/8, W/8]` of a job whose last step has run.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn finish_denoise(&mut self, job: Self::Denoise) -> Result<Latent>;

    /// Latent to image `[B, H, W, 3]`, 0 to 1.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn decode(&mut self, latent: Latent) -> Result<Image>;

    /// Image to the mean of its latent distribution.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn vae_encode(&mut self, image: Image) -> Result<Latent>;

    /// Bytes of device memory in use and in all; 0 when unknown.
    fn memory(&self) -> (u64, u64);

    /// Tells what jobs take before they run; nothing, unless a model says otherwise.
    fn costs(&self) -> Arc<dyn JobCosts> {
        Arc::new(Free)
    }

    /// The memory that jobs may take, asked once the model is loaded.
    fn budget(&self) -> Budget {
        Budget::OneMemory(None)
    }

    /// Bytes of a GPU's memory that operations may take now, beside what jobs under way hold;
    /// `None` without a GPU.
    fn device_memory_left(&self) -> Option<u64> {
        None
    }

    /// Asks the device for a sign of life.
    ///
    /// # Errors
    /// It answers nothing but errors: no job can run on it any more in this process.
    fn check_device(&self) -> Result<()> {
        Ok(())
    }
}
