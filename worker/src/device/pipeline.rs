//! The pipeline as the device thread's backend.

use std::sync::Arc;

use candle_core::Device;
use ovis_protocol::{Capabilities, DenoiseRequest, EncodeRequest, PromptCut};

use super::backend::Backend;
use super::probe::Probe;
use crate::jobs::JobCosts;
use crate::nn::{device_memory, give_back_memory};
use crate::pipeline::{
    device_memory_left, free_host_memory, Budget, Conditioning, DenoiseInputs, DenoiseState,
    Forwards, Image, Latent, MemoryReport, Pipeline, Preview, Result, StepReport,
};

impl Backend for Pipeline {
    type Denoise = DenoiseState;

    fn capabilities(&self) -> Capabilities {
        Pipeline::capabilities(self)
    }

    fn encode(&mut self, request: &EncodeRequest) -> Result<(Conditioning, Vec<PromptCut>)> {
        let stack = self.stack(&request.adapters)?;
        self.encode_adapted(
            &request.prompts,
            request.max_sequence_length as usize,
            &stack,
        )
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
        Pipeline::step(self, job)
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

    fn probe(&self) -> Box<dyn Probe> {
        Box::new(DeviceProbe(self.placement().device.clone()))
    }

    fn costs(&self) -> Arc<dyn JobCosts> {
        Arc::new(Pipeline::costs(self))
    }

    fn weight_bytes(&self) -> u64 {
        self.weights().iter().map(|part| part.bytes()).sum()
    }

    fn make_room(&mut self, bytes: u64) -> Result<()> {
        let adapters = self.adapter_bytes();
        self.drop_adapters();
        if adapters < bytes {
            Pipeline::make_room(self, bytes - adapters)?;
        }
        Ok(())
    }

    fn settle(&mut self, room: u64) -> Result<()> {
        Pipeline::settle(self, room).map(drop)
    }

    fn movable(&self) -> u64 {
        match self.placement().device.is_cpu() {
            true => 0,
            false => self.movable_bytes(),
        }
    }

    fn memory_report(&self) -> Option<MemoryReport> {
        Pipeline::memory_report(self).cloned()
    }

    fn budget(&self) -> Budget {
        Budget::now(&self.placement().device, self.host_memory())
    }
}

/// A device of candle's.
struct DeviceProbe(Device);

impl Probe for DeviceProbe {
    fn memory(&self) -> (u64, u64) {
        device_memory(&self.0)
    }

    fn gpu_memory_left(&self) -> Option<u64> {
        match self.0.is_cpu() {
            true => None,
            false => device_memory_left(&self.0),
        }
    }

    fn room(&self) -> Option<u64> {
        match self.0.is_cpu() {
            true => free_host_memory(),
            false => self.gpu_memory_left(),
        }
    }

    fn give_back(&self) {
        if let Err(error) = give_back_memory(&self.0) {
            tracing::warn!(%error, "the driver keeps the memory of a model that was unloaded");
        }
    }

    fn check(&self) -> Result<()> {
        Ok(self.0.synchronize()?)
    }
}
