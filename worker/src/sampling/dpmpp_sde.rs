//! `dpmpp_sde`: two evaluations a step, and noise before both.
//!
//! Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `sample_dpmpp_sde`; Lu et
//! al., <https://arxiv.org/abs/2211.01095>.

use candle_core::{Result, Tensor};

use super::solver::{ancestral, combine, exp, ln, Denoiser, Solver, Stepped};
use super::step_noise::StepNoise;

/// The stochastic DPM-Solver++ of one step, over the logarithm of the signal to
/// noise ratio. The first of its `sigmas` must be below 1.
pub struct DpmppSde {
    pub sigmas: Vec<f32>,
    /// How much of the noise is new.
    pub eta: f64,
    /// Strength of the new noise.
    pub s_noise: f64,
    /// Where in the step the second evaluation stands, above 0 and at most 1.
    pub r: f64,
}

/// A sigma and half the logarithm of its signal to noise ratio, in float32 as in
/// ComfyUI, because [`ancestral`] loses most of the digits after them.
#[derive(Clone, Copy)]
struct At {
    sigma: f32,
    lambda: f32,
}

impl At {
    fn sigma(sigma: f32) -> Self {
        Self {
            sigma,
            lambda: -ln(sigma / (1.0 - sigma)),
        }
    }

    fn lambda(lambda: f32) -> Self {
        Self {
            sigma: 1.0 / (1.0 + exp(lambda)),
            lambda,
        }
    }

    /// `alpha`: how much of the image is left.
    fn signal(self) -> f64 {
        f64::from(self.sigma * exp(self.lambda))
    }

    fn noise_to_signal(self) -> f32 {
        exp(-self.lambda)
    }
}

impl DpmppSde {
    /// Beginning, middle and end of a step, where it does not end at 0.
    fn points(&self, step: usize) -> Option<[At; 3]> {
        let (sigma, next) = (self.sigmas[step], self.sigmas[step + 1]);
        if next == 0.0 {
            return None;
        }
        let (start, end) = (At::sigma(sigma), At::sigma(next));
        let middle = start.lambda + self.r as f32 * (end.lambda - start.lambda);
        Some([start, At::lambda(middle), end])
    }

    /// From one point of a step to another, given a denoised estimate, with new
    /// noise.
    fn leap(
        &self,
        (x, denoised): (&Tensor, &Tensor),
        from: At,
        to: At,
        noise: &mut dyn StepNoise,
    ) -> Result<Tensor> {
        let ratio = from.noise_to_signal();
        let (down, up) = ancestral(ratio, to.noise_to_signal(), self.eta as f32);
        let kept = f64::from(down) / f64::from(ratio);
        let signal = to.signal();
        let x = combine(
            (signal / from.signal() * kept, x),
            &[(signal * (1.0 - kept), denoised)],
        )?;
        if self.eta == 0.0 || self.s_noise == 0.0 {
            return Ok(x);
        }
        let fresh = noise.between(from.sigma, to.sigma)?;
        combine(
            (1.0, &x),
            &[(signal * self.s_noise * f64::from(up), &fresh)],
        )
    }
}

impl Solver for DpmppSde {
    fn evaluations(&self, step: usize) -> Vec<f32> {
        match self.points(step) {
            None => vec![self.sigmas[step]],
            Some([start, middle, _]) => vec![start.sigma, middle.sigma],
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
        let there = self.leap((x, &denoised), start, middle, noise)?;
        let denoised_there = model(&there, middle.sigma)?;
        let share = 1.0 / (2.0 * self.r);
        let both = combine((1.0 - share, &denoised), &[(share, &denoised_there)])?;
        let x = self.leap((x, &both), start, end, noise)?;
        Ok(Stepped { x, denoised })
    }
}
