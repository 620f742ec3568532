//! `dpmpp_sde`: two evaluations a step, with new noise after each; no memory.
//!
//! Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `sample_dpmpp_sde`; Lu et
//! al., <https://arxiv.org/abs/2211.01095>.

use candle_core::{Result, Tensor};

use super::arithmetic::{ancestral, combine, half_log_snr};
use super::solver::{Denoiser, Solver, Stepped};
use super::step_noise::StepNoise;

/// The stochastic singlestep DPM-Solver++, which steps over half the logarithm of the
/// signal-to-noise ratio. The first of its `sigmas` must be below 1, where that logarithm is
/// finite.
pub struct DpmppSde {
    pub sigmas: Vec<f32>,
    /// Share of the noise that is replaced.
    pub eta: f64,
    /// Factor on the new noise.
    pub s_noise: f64,
    /// Position of the second evaluation in the step, above 0 and at most 1.
    pub r: f64,
}

/// A sigma and half the logarithm of its signal-to-noise ratio, lambda.
#[derive(Clone, Copy)]
struct Point {
    sigma: f64,
    lambda: f64,
}

impl Point {
    fn from_sigma(sigma: f32) -> Self {
        let sigma = f64::from(sigma);
        Self {
            sigma,
            lambda: half_log_snr(sigma),
        }
    }

    fn from_lambda(lambda: f64) -> Self {
        Self {
            sigma: 1.0 / (1.0 + lambda.exp()),
            lambda,
        }
    }
}

impl DpmppSde {
    /// The start of a step, its second evaluation, and its end; `None` for a step to 0, which
    /// evaluates the model once.
    fn points(&self, step: usize) -> Option<[Point; 3]> {
        let (sigma, next) = (self.sigmas[step], self.sigmas[step + 1]);
        if next == 0.0 {
            return None;
        }
        let (start, end) = (Point::from_sigma(sigma), Point::from_sigma(next));
        let middle = start.lambda + self.r * (end.lambda - start.lambda);
        Some([start, Point::from_lambda(middle), end])
    }

    /// An ancestral step from one point to another along a denoised estimate.
    fn ancestral_step(
        &self,
        (x, denoised): (&Tensor, &Tensor),
        from: Point,
        to: Point,
        noise: &mut dyn StepNoise,
    ) -> Result<Tensor> {
        let ratio = (-from.lambda).exp();
        let (down, up) = ancestral(ratio, (-to.lambda).exp(), self.eta);
        let kept = down / ratio;
        let signal = 1.0 - to.sigma;
        let x = combine(
            (signal / (1.0 - from.sigma) * kept, x),
            &[(signal * (1.0 - kept), denoised)],
        )?;
        if self.eta == 0.0 || self.s_noise == 0.0 {
            return Ok(x);
        }
        let fresh = noise.between(from.sigma as f32, to.sigma as f32)?;
        combine((1.0, &x), &[(signal * self.s_noise * up, &fresh)])
    }
}

impl Solver for DpmppSde {
    fn evaluations(&self, step: usize) -> Vec<f32> {
        match self.points(step) {
            None => vec![self.sigmas[step]],
            Some([start, middle, _]) => vec![start.sigma as f32, middle.sigma as f32],
        }
    }

    fn step(
        &mut self,
        step: usize,
        x: &Tensor,
        model: &mut Denoiser<'_>,
        noise: &mut dyn StepNoise,
    ) -> Result<Stepped> {
        let denoised = model(x, self.sigmas[step])?;
        let Some([start, middle, end]) = self.points(step) else {
            return Ok(Stepped {
                x: denoised.clone(),
                denoised,
            });
        };
        let x_middle = self.ancestral_step((x, &denoised), start, middle, noise)?;
        let denoised_middle = model(&x_middle, middle.sigma as f32)?;
        let share = 1.0 / (2.0 * self.r);
        let both = combine((1.0 - share, &denoised), &[(share, &denoised_middle)])?;
        let x = self.ancestral_step((x, &both), start, end, noise)?;
        Ok(Stepped { x, denoised })
    }
}
