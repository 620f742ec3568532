//! What the device's thread needs of a model, and nothing more.

use std::sync::Arc;

use ovis_protocol::{Capabilities, DenoiseRequest, EncodeRequest, PromptCut};

use super::probe::{Probe, Silent};
use crate::jobs::{Free, JobCosts};
use crate::pipeline::{
    Budget, Conditioning, DenoiseInputs, Forwards, Image, Latent, MemoryReport, Preview, Result,
    StepReport,
};

/// A loaded model. It is created, used and dropped on the device's thread, so it need not be
/// `Send`. A panic in an operation fails the job, not the thread.
///
/// Operations fail with [`Error`](crate::pipeline::Error): `Invalid` for a value out of range,
/// `MissingPart` if the checkpoint lacks a part, `Device` if the device failed. Methods without
/// an `# Errors` section of their own fail in these ways only.
pub trait Backend: 'static {
    /// The state of one denoise job between two steps.
    type Denoise;

    /// What the loaded checkpoint can do.
    fn capabilities(&self) -> Capabilities;

    /// Encodes prompts to conditioning `[B, T, D]`, and says what was cut from them.
    fn encode(&mut self, request: &EncodeRequest) -> Result<(Conditioning, Vec<PromptCut>)>;

    /// Prepares a denoise job: schedule, noise, first latent.
    fn start_denoise(
        &mut self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
    ) -> Result<Self::Denoise>;

    /// Prepares a denoise job to go on from a state that [`snapshot`](Self::snapshot) wrote.
    ///
    /// # Errors
    /// [`Error::Snapshot`](crate::pipeline::Error) for a state that is damaged or belongs to
    /// another job or model.
    fn resume_denoise(
        &mut self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
        state: &[u8],
    ) -> Result<Self::Denoise>;

    /// Writes out the state of a denoise job between two steps.
    fn snapshot(&mut self, job: &Self::Denoise) -> Result<Vec<u8>>;

    /// Number of steps that a denoise job has done and has in all.
    fn report(&self, job: &Self::Denoise) -> StepReport;

    /// Runs one denoise step. A job without steps reports 0 of 0.
    fn step(&mut self, job: &mut Self::Denoise) -> Result<StepReport>;

    /// Number of transformer forwards in a job's steps so far.
    fn forwards(&self, job: &Self::Denoise) -> Forwards;

    /// A preview of a job's image, if its request asks for previews.
    fn preview(&mut self, job: &Self::Denoise) -> Result<Option<Preview>>;

    /// The latent `[B, C, H/8, W/8]` of a job whose last step has run.
    fn finish_denoise(&mut self, job: Self::Denoise) -> Result<Latent>;

    /// Decodes a latent to an image `[B, H, W, 3]`, 0 to 1.
    fn decode(&mut self, latent: Latent) -> Result<Image>;

    /// Encodes an image to the mean of its latent distribution, `[B, C, H/8, W/8]`.
    fn vae_encode(&mut self, image: Image) -> Result<Latent>;

    /// The device that the model is on, to be asked also while the model is not loaded. By default
    /// it says nothing.
    fn probe(&self) -> Box<dyn Probe> {
        Box::new(Silent)
    }

    /// Bytes of the loaded weights, as their files store them. By default they are unknown, 0.
    fn weight_bytes(&self) -> u64 {
        0
    }

    /// The plan that the weights are kept by within a budget of GPU memory. By default there is none.
    fn memory_report(&self) -> Option<MemoryReport> {
        None
    }

    /// Frees `bytes` of device memory by weights that leave it, if there are any that can. The
    /// results of jobs do not change. By default none can.
    fn make_room(&mut self, _bytes: u64) -> Result<()> {
        Ok(())
    }

    /// Brings weights that have left the device back while `room` bytes of its memory are free.
    fn settle(&mut self, _room: u64) -> Result<()> {
        Ok(())
    }

    /// Bytes of device memory that [`make_room`](Self::make_room) could free.
    fn movable(&self) -> u64 {
        0
    }

    /// Estimates what jobs take before they run. By default they are free.
    fn costs(&self) -> Arc<dyn JobCosts> {
        Arc::new(Free)
    }

    /// The memory that jobs may take, measured once after loading. By default it is unbounded.
    fn budget(&self) -> Budget {
        Budget::OneMemory(None)
    }
}
