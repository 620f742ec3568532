//! Deterministic second-order solvers that extrapolate from two denoised estimates: that of the
//! step before, and the new one.

use candle_core::{Result, Tensor};

use super::arithmetic::{ends, euler};
use super::last_estimate::LastEstimate;
use super::snapshot::{self, Snapshot};
use super::solver::{Denoiser, Solver, Stepped};
use super::step_noise::StepNoise;

/// What a second-order step computes the next latents from.
pub struct Estimates<'a> {
    /// The latents at `sigma`.
    pub x: &'a Tensor,
    /// The denoised estimate at `sigma`.
    pub denoised: &'a Tensor,
    /// The denoised estimate at `before`.
    pub last: &'a Tensor,
    /// The sigma of the step before.
    pub before: f64,
    /// The sigma at which the step starts.
    pub sigma: f64,
    /// The sigma at which the step ends, above 0.
    pub next: f64,
}

/// A solver that takes an Euler step first and last, and second-order steps between them.
pub struct TwoStep {
    /// The schedule.
    sigmas: Vec<f32>,
    /// The estimate of the step before.
    last: LastEstimate,
    /// The latents after a second-order step.
    second_order: fn(&Estimates<'_>) -> Result<Tensor>,
}

impl TwoStep {
    /// A solver over `sigmas` before its first step.
    pub fn new(sigmas: Vec<f32>, second_order: fn(&Estimates<'_>) -> Result<Tensor>) -> Self {
        Self {
            sigmas,
            last: LastEstimate::default(),
            second_order,
        }
    }
}

impl Solver for TwoStep {
    fn evaluations(&self, step: usize) -> Vec<f32> {
        vec![self.sigmas[step]]
    }

    fn step(
        &mut self,
        step: usize,
        x: &Tensor,
        model: &mut Denoiser<'_>,
        _: &mut dyn StepNoise,
    ) -> Result<Stepped> {
        let denoised = model(x, self.sigmas[step])?;
        let (sigma, next) = ends(&self.sigmas, step);
        let x = match self.last.get() {
            Some(last) if next > 0.0 => (self.second_order)(&Estimates {
                x,
                denoised: &denoised,
                last,
                before: f64::from(self.sigmas[step - 1]),
                sigma,
                next,
            })?,
            _ => euler(x, &denoised, sigma, next)?,
        };
        self.last.set(&denoised);
        Ok(Stepped { x, denoised })
    }

    fn save(&self, snapshot: &mut Snapshot) -> snapshot::Result<()> {
        self.last.save(snapshot)
    }

    fn restore(&mut self, snapshot: &Snapshot, step: usize, x: &Tensor) -> snapshot::Result<()> {
        self.last = LastEstimate::restored(snapshot, step, x)?;
        Ok(())
    }
}
