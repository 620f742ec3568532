//! `euler` and `ddim`, and `euler_ancestral`: one evaluation a step, no memory.
//!
//! Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `sample_euler` and
//! `sample_euler_ancestral_RF`. ComfyUI's `ddim` is `euler` with other noise
//! outside a noise mask.

use candle_core::{Result, Tensor};

use super::arithmetic::{combine, ends, euler};
use super::solver::{Denoiser, Solver, Stepped};
use super::step_noise::StepNoise;

/// Explicit Euler steps.
pub struct Euler {
    pub sigmas: Vec<f32>,
}

impl Solver for Euler {
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
        Ok(Stepped {
            x: euler(x, &denoised, sigma, next)?,
            denoised,
        })
    }
}

/// Ancestral Euler steps: each goes past the target sigma, then adds noise back up to it.
pub struct EulerAncestral {
    pub sigmas: Vec<f32>,
    /// Share of the noise that is replaced: 0 is `euler`.
    pub eta: f64,
    /// Factor on the new noise.
    pub s_noise: f64,
}

impl Solver for EulerAncestral {
    fn evaluations(&self, step: usize) -> Vec<f32> {
        vec![self.sigmas[step]]
    }

    fn step(
        &mut self,
        step: usize,
        x: &Tensor,
        model: &mut Denoiser<'_>,
        noise: &mut dyn StepNoise,
    ) -> Result<Stepped> {
        let denoised = model(x, self.sigmas[step])?;
        let (sigma, next) = ends(&self.sigmas, step);
        let down = next * (1.0 + (next / sigma - 1.0) * self.eta);
        let mut x = euler(x, &denoised, sigma, down)?;
        if next > 0.0 && self.eta > 0.0 {
            let rescale = (1.0 - next) / (1.0 - down);
            let variance = next * next - (down * rescale).powi(2);
            let fresh = noise.between(self.sigmas[step], self.sigmas[step + 1])?;
            x = combine(
                (rescale, &x),
                &[(self.s_noise * variance.max(0.0).sqrt(), &fresh)],
            )?;
        }
        Ok(Stepped { x, denoised })
    }
}
