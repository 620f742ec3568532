//! The pipeline as the device thread's backend.

use std::sync::Arc;

use ovis_protocol::{Capabilities, DenoiseRequest, EncodeRequest, PromptCut};

use super::backend::Backend;
use crate::jobs::JobCosts;
use crate::nn::device_memory;
use crate::pipeline::{
    device_memory_left, Budget, Conditioning, DenoiseInputs, DenoiseState, Forwards, Image, Latent,
    MemoryReport, Pipeline, Preview, Result, StepReport,
};

impl Backend for Pipeline {
    type Denoise = DenoiseState;

    fn capabilities(&self) -> Capabilities {
        Pipeline::capabilities(self)
    }

    fn encode(&mut self, request: &EncodeRequest) -> Result<(Conditioning, Vec<PromptCut>)> {
        Pipeline::encode(self, &request.prompts, request.max_sequence_length as usize)
    }

    fn start_denoise(
        &mut self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
    ) -> Result<DenoiseState> {
        Pipeline::start_denoise(self, request, inputs)
    }

    fn resume_denoise(
        &mut self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
        state: &[u8],
    ) -> Result<DenoiseState> {
        self.resume_from_bytes(request, inputs, state)
    }

    fn snapshot(&mut self, job: &DenoiseState) -> Result<Vec<u8>> {
        self.snapshot_bytes(job)
    }

    fn report(&self, job: &DenoiseState) -> StepReport {
        job.report()
    }

    fn step(&mut self, job: &mut DenoiseState) -> Result<StepReport> {
        job.step(self.denoiser()?)
    }

    fn forwards(&self, job: &DenoiseState) -> Forwards {
        job.forwards()
    }

    fn preview(&mut self, job: &DenoiseState) -> Result<Option<Preview>> {
        Pipeline::preview(self, job)
    }

    fn finish_denoise(&mut self, job: DenoiseState) -> Result<Latent> {
        job.finish()
    }

    fn decode(&mut self, latent: Latent) -> Result<Image> {
        Pipeline::decode(self, &latent)
    }

    fn vae_encode(&mut self, image: Image) -> Result<Latent> {
        Pipeline::vae_encode(self, &image)
    }

    fn memory(&self) -> (u64, u64) {
        device_memory(&self.placement().device)
    }

    fn costs(&self) -> Arc<dyn JobCosts> {
        Arc::new(Pipeline::costs(self))
    }

    fn weight_bytes(&self) -> u64 {
        self.weights().iter().map(|part| part.bytes()).sum()
    }

    fn memory_report(&self) -> Option<MemoryReport> {
        Pipeline::memory_report(self).cloned()
    }

    fn budget(&self) -> Budget {
        Budget::now(&self.placement().device, self.host_memory())
    }

    fn device_memory_left(&self) -> Option<u64> {
        let device = &self.placement().device;
        match device.is_cpu() {
            true => None,
            false => device_memory_left(device),
        }
    }

    fn check_device(&self) -> Result<()> {
        Ok(self.placement().device.synchronize()?)
    }
}
