//! A pipeline that records how long each operation takes while the server runs it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ovis_protocol::{Capabilities, DenoiseRequest, EncodeRequest, PromptCut};

use crate::device::{Backend, Probe};
use crate::jobs::JobCosts;
use crate::pipeline::{
    Budget, Conditioning, DenoiseInputs, DenoiseState, Forwards, Image, Latent, Pipeline, Preview,
    Result, StepReport, PREFIX_POSITIONS,
};

/// The times since the last reading.
#[derive(Default)]
pub struct Laps {
    /// Seconds of each prompt's encode.
    pub encode: Vec<f64>,
    /// Seconds of each step.
    pub step: Vec<f64>,
    /// Seconds of each decode, until the pixels are in host memory.
    pub decode: Vec<f64>,
    /// Forward passes of the denoise job that stepped last.
    pub forwards: Forwards,
}

/// The times, shared between the device's thread, which records them, and the one that reads.
#[derive(Clone, Default)]
pub struct Clock(Arc<Mutex<Laps>>);

impl Clock {
    /// Returns all times since the last call, and clears them.
    pub fn take(&self) -> Laps {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, note: impl FnOnce(&mut Laps)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A pipeline whose operations are timed. It does not use a tokenizer, which random weights do not
/// have: each word of a prompt becomes one token.
pub struct Timed {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Where the times are recorded.
    pub clock: Clock,
}

impl Backend for Timed {
    type Denoise = DenoiseState;

    fn capabilities(&self) -> Capabilities {
        let mut can = self.pipeline.capabilities();
        if !can.operations.iter().any(|name| name == "encode") {
            can.operations.push("encode".to_owned());
        }
        can
    }

    fn encode(&mut self, request: &EncodeRequest) -> Result<(Conditioning, Vec<PromptCut>)> {
        let tokens = |prompt: &String| {
            let count = PREFIX_POSITIONS + prompt.split_whitespace().count();
            (0..count as u32).map(|i| 1 + i * 7 % 200).collect()
        };
        let ids: Vec<Vec<u32>> = request.prompts.iter().map(tokens).collect();
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let begun = Instant::now();
        let made = self
            .pipeline
            .encode_ids(&ids, request.max_sequence_length as usize)?;
        self.clock
            .note(|laps| laps.encode.push(begun.elapsed().as_secs_f64()));
        Ok((made, Vec::new()))
    }

    fn start_denoise(
        &mut self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
    ) -> Result<DenoiseState> {
        self.pipeline.start_denoise(request, inputs)
    }

    fn resume_denoise(
        &mut self,
        request: &DenoiseRequest,
        inputs: DenoiseInputs,
        state: &[u8],
    ) -> Result<DenoiseState> {
        Backend::resume_denoise(&mut self.pipeline, request, inputs, state)
    }

    fn snapshot(&mut self, job: &DenoiseState) -> Result<Vec<u8>> {
        Backend::snapshot(&mut self.pipeline, job)
    }

    fn report(&self, job: &DenoiseState) -> StepReport {
        job.report()
    }

    fn step(&mut self, job: &mut DenoiseState) -> Result<StepReport> {
        let begun = Instant::now();
        let report = job.step(self.pipeline.denoiser()?)?;
        self.clock.note(|laps| {
            laps.step.push(begun.elapsed().as_secs_f64());
            laps.forwards = job.forwards();
        });
        Ok(report)
    }

    fn forwards(&self, job: &DenoiseState) -> Forwards {
        job.forwards()
    }

    fn preview(&mut self, job: &DenoiseState) -> Result<Option<Preview>> {
        self.pipeline.preview(job)
    }

    fn finish_denoise(&mut self, job: DenoiseState) -> Result<Latent> {
        job.finish()
    }

    fn decode(&mut self, latent: Latent) -> Result<Image> {
        let begun = Instant::now();
        let image = self.pipeline.decode(&latent)?;
        self.clock
            .note(|laps| laps.decode.push(begun.elapsed().as_secs_f64()));
        Ok(image)
    }

    fn vae_encode(&mut self, image: Image) -> Result<Latent> {
        self.pipeline.vae_encode(&image)
    }

    fn probe(&self) -> Box<dyn Probe> {
        self.pipeline.probe()
    }

    fn costs(&self) -> Arc<dyn JobCosts> {
        Backend::costs(&self.pipeline)
    }

    fn budget(&self) -> Budget {
        self.pipeline.budget()
    }
}
