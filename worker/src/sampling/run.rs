//! A denoise run from noise to latents, advanced one step at a time.
//!
//! Source: ComfyUI 0.18.1 `samplers.py` `KSAMPLER.sample` and
//! `KSamplerX0Inpaint`, `model_sampling.py` `CONST`.

use candle_core::{Result, Tensor};

use super::arithmetic::{combine, scaled};
use super::sampler::{NoiseKind, Sampler};
use super::snapshot::{self, Snapshot, SnapshotError};
use super::solver::{Denoiser, Solver};
use super::step_noise::{BrownianNoise, SeededNoise, StepNoise};
use super::table::FlowTable;
use crate::nn::blend;

/// The tensors a run starts from, float32 on one device.
pub struct Start {
    /// Latents in the model's scaling, `[B, C, H, W]`; zeros for an empty latent.
    pub latents: Tensor,
    /// The initial noise, of the same shape; zeros when no noise is added.
    pub noise: Tensor,
    /// `[1 or B, 1, H, W]`: 1 where the latents are denoised, 0 where they are kept.
    pub mask: Option<Tensor>,
    /// Seed of the noise that the solver draws during its steps.
    pub seed: u64,
}

/// The original latents, which a noise mask keeps where it is 0.
struct Original {
    mask: Tensor,
    noise: Tensor,
    latents: Tensor,
}

impl Original {
    /// Evaluates the model under the mask: where the mask is 0, the model gets the original
    /// with noise of this sigma, and its estimate is replaced by the original.
    fn denoise(&self, x: &Tensor, sigma: f32, model: &mut Denoiser<'_>) -> Result<Tensor> {
        let original = noised(&self.latents, &self.noise, sigma)?;
        let denoised = model(&blend(x, &original, &self.mask)?, sigma)?;
        blend(&denoised, &self.latents, &self.mask)
    }
}

/// Names of a run's parts in a snapshot.
const SAMPLER: &str = "run.sampler";
const SIGMAS: &str = "run.sigmas";
const STEP: &str = "run.step";
const X: &str = "run.x";

/// The flow's interpolation, `sigma * noise + (1 - sigma) * latents`.
fn noised(latents: &Tensor, noise: &Tensor, sigma: f32) -> Result<Tensor> {
    let sigma = f64::from(sigma);
    combine((sigma, noise), &[(1.0 - sigma, latents)])
}

/// A run between two steps.
pub struct Run {
    sampler: Sampler,
    sigmas: Vec<f32>,
    step: usize,
    x: Tensor,
    solver: Box<dyn Solver>,
    noise: Box<dyn StepNoise>,
    original: Option<Original>,
}

impl Run {
    /// A run through `sigmas`: at least two, descending from at most 1.
    ///
    /// # Errors
    /// The shapes of `start` do not fit together, or the device fails.
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

    /// [`new`](Self::new) with other noise for the solver to add during its steps.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub(super) fn with_noise(
        sampler: Sampler,
        sigmas: Vec<f32>,
        table: &FlowTable,
        start: Start,
        noise: Box<dyn StepNoise>,
    ) -> Result<Self> {
        let x = noised(&start.latents, &start.noise, sigmas[0])?;
        let original = match start.mask {
            None => None,
            Some(mask) => Some(Original {
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
            sampler,
            sigmas,
            step: 0,
            x,
            noise,
            original,
        })
    }

    /// How many steps are done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.sigmas.len() - 1
    }

    /// The latents between two steps, in the model's scaling.
    pub fn latents(&self) -> &Tensor {
        &self.x
    }

    /// The sigma of the latents: that at which the next step starts, or the last.
    pub fn sigma(&self) -> f32 {
        self.sigmas[self.step]
    }

    /// The sigmas at which the remaining steps evaluate the model, in order.
    pub fn evaluations(&self) -> Vec<f32> {
        (self.step..self.steps())
            .flat_map(|step| self.solver.evaluations(step))
            .collect()
    }

    /// Takes a step, and returns the denoised estimate at its first sigma; `None` when all
    /// steps are done.
    ///
    /// # Errors
    /// The model or the device fails, or the job is cancelled within the step. The run stays at
    /// the step, but what the solver and its noise remember may have moved on.
    pub fn advance(&mut self, model: &mut Denoiser<'_>) -> Result<Option<Tensor>> {
        if self.step == self.steps() {
            return Ok(None);
        }
        let original = self.original.as_ref();
        let mut masked = |x: &Tensor, sigma: f32| match original {
            Some(original) => original.denoise(x, sigma, model),
            None => model(x, sigma),
        };
        let noise = &mut *self.noise;
        let stepped = self.solver.step(self.step, &self.x, &mut masked, noise)?;
        self.x = stepped.x;
        self.step += 1;
        Ok(Some(stepped.denoised))
    }

    /// Stores the state between two steps. The original latents under a mask and their noise
    /// are not part of it: a run that is resumed starts from the same [`Start`].
    ///
    /// # Errors
    /// A tensor cannot be copied from the device.
    pub fn save(&self, snapshot: &mut Snapshot) -> snapshot::Result<()> {
        snapshot.put(SAMPLER, self.sampler_text());
        snapshot.put(SIGMAS, self.sigma_bits());
        snapshot.put(STEP, self.step as u64);
        snapshot.put_tensor(X, &self.x)?;
        self.noise.save(snapshot)?;
        match self.step < self.steps() {
            true => self.solver.save(snapshot),
            // No further step needs the solver's memory.
            false => Ok(()),
        }
    }

    /// This new run in the state in which another one of the same sampler, sigmas and start
    /// called [`save`](Self::save).
    ///
    /// # Errors
    /// The snapshot is of another sampler or schedule, or of latents of another shape, or it
    /// lacks a part of the state.
    pub fn restored(mut self, snapshot: &Snapshot) -> snapshot::Result<Self> {
        let foreign = |what| Err(SnapshotError::Foreign { what });
        if snapshot.get::<String>(SAMPLER)? != self.sampler_text() {
            return foreign("sampler");
        }
        if snapshot.get::<Vec<u32>>(SIGMAS)? != self.sigma_bits() {
            return foreign("schedule");
        }
        self.step = snapshot.count(STEP, self.steps())?;
        self.x = snapshot.tensor_like(X, &self.x)?;
        self.noise.restore(snapshot)?;
        if self.step < self.steps() {
            self.solver.restore(snapshot, self.step, &self.x)?;
        }
        Ok(self)
    }

    /// The sampler with its options, as a snapshot has it.
    fn sampler_text(&self) -> String {
        format!("{:?}", self.sampler)
    }

    fn sigma_bits(&self) -> Vec<u32> {
        self.sigmas.iter().map(|sigma| sigma.to_bits()).collect()
    }

    /// The latents, in the model's scaling. Where noise of a sigma s is left over, the latents
    /// in it are scaled by 1 - s, so the result is divided by that.
    pub fn finish(self) -> Result<Tensor> {
        let end = self.solver.end().unwrap_or(self.sigma());
        if end == 0.0 {
            return Ok(self.x);
        }
        scaled(1.0 / (1.0 - f64::from(end)), &self.x)
    }
}
