//! A denoise run from noise to latents, one step at a time.
//!
//! Source: ComfyUI 0.18.1 `samplers.py` `KSAMPLER.sample` and
//! `KSamplerX0Inpaint`, `model_sampling.py` `CONST`.

use candle_core::{Result, Tensor};

use super::sampler::{NoiseKind, Sampler};
use super::solver::{combine, scaled, Denoiser, Solver};
use super::step_noise::{BrownianNoise, SeededNoise, StepNoise};
use super::table::FlowTable;
use crate::nn::blend;

/// What a run starts from: float32 on one device.
pub struct Start {
    /// Latents in the model's scaling, `[B, C, H, W]`; zeros for an empty one.
    pub latents: Tensor,
    /// The initial noise, of the same shape; zeros where none is added.
    pub noise: Tensor,
    /// `[1 or B, 1, H, W]`: 1 where the latents are denoised, 0 where they stay.
    pub mask: Option<Tensor>,
    /// Seed of whatever noise the solver draws.
    pub seed: u64,
}

/// What stays of the original latents under a noise mask.
struct Known {
    mask: Tensor,
    noise: Tensor,
    latents: Tensor,
}

impl Known {
    /// Outside the mask the model sees the original with a step's noise, and
    /// its estimate is replaced by the original.
    fn denoise(&self, x: &Tensor, sigma: f32, model: &mut Denoiser<'_>) -> Result<Tensor> {
        let known = noised(&self.latents, &self.noise, sigma)?;
        let denoised = model(&blend(x, &known, &self.mask)?, sigma)?;
        blend(&denoised, &self.latents, &self.mask)
    }
}

/// `sigma * noise + (1 - sigma) * latents`: the flow's interpolation.
fn noised(latents: &Tensor, noise: &Tensor, sigma: f32) -> Result<Tensor> {
    let sigma = f64::from(sigma);
    combine((sigma, noise), &[(1.0 - sigma, latents)])
}

/// A run between two steps.
pub struct Run {
    sigmas: Vec<f32>,
    step: usize,
    x: Tensor,
    solver: Box<dyn Solver>,
    noise: Box<dyn StepNoise>,
    known: Option<Known>,
}

impl Run {
    /// A run through `sigmas`, of which there are at least two, descending from
    /// at most 1.
    ///
    /// # Errors
    /// The shapes do not fit together, or the device fails.
    pub fn new(
        sampler: Sampler,
        sigmas: Vec<f32>,
        table: &FlowTable,
        start: Start,
    ) -> Result<Self> {
        let noise: Box<dyn StepNoise> = match sampler.noise() {
            NoiseKind::Seeded => Box::new(SeededNoise::new(start.seed, &start.latents)),
            NoiseKind::Brownian => Box::new(BrownianNoise::new(start.seed, &start.latents)),
        };
        Self::with_noise(sampler, sigmas, table, start, noise)
    }

    /// As [`new`](Self::new), with the noise that the solver adds on its way.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_noise(
        sampler: Sampler,
        sigmas: Vec<f32>,
        table: &FlowTable,
        start: Start,
        noise: Box<dyn StepNoise>,
    ) -> Result<Self> {
        let x = noised(&start.latents, &start.noise, sigmas[0])?;
        let known = match start.mask {
            None => None,
            Some(mask) => Some(Known {
                mask,
                noise: match sampler.masks_with_other_noise() {
                    true => SeededNoise::new(start.seed, &start.latents).between(1.0, 0.0)?,
                    false => start.noise,
                },
                latents: start.latents,
            }),
        };
        Ok(Self {
            solver: sampler.solver(sigmas.clone(), table),
            sigmas,
            step: 0,
            x,
            noise,
            known,
        })
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Steps in all.
    pub fn steps(&self) -> usize {
        self.sigmas.len() - 1
    }

    /// The sigma of the next step, or of the result.
    pub fn sigma(&self) -> f32 {
        self.sigmas[self.step]
    }

    /// Every sigma at which the steps will ask the model, in their order.
    pub fn evaluations(&self) -> Vec<f32> {
        (self.step..self.steps())
            .flat_map(|step| self.solver.evaluations(step))
            .collect()
    }

    /// Takes a step, and gives the denoised estimate at its beginning; `None`
    /// once all are done.
    ///
    /// # Errors
    /// The model or the device fails.
    pub fn advance(&mut self, model: &mut Denoiser<'_>) -> Result<Option<Tensor>> {
        if self.step == self.steps() {
            return Ok(None);
        }
        let known = self.known.as_ref();
        let mut masked = |x: &Tensor, sigma: f32| match known {
            Some(known) => known.denoise(x, sigma, model),
            None => model(x, sigma),
        };
        let noise = &mut *self.noise;
        let stepped = self.solver.step(self.step, &self.x, &mut masked, noise)?;
        self.x = stepped.x;
        self.step += 1;
        Ok(Some(stepped.denoised))
    }

    /// The latents, in the model's scaling. Leftover noise of sigma s stands
    /// over the latents times 1 - s, so they are divided by it.
    ///
    /// # Errors
    /// The device fails.
    pub fn finish(self) -> Result<Tensor> {
        let end = self.solver.end().unwrap_or(self.sigma());
        if end == 0.0 {
            return Ok(self.x);
        }
        scaled(1.0 / (1.0 - f64::from(end)), &self.x)
    }
}
