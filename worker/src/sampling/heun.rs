//! `heun` and `dpm_2`: two evaluations a step, except for a step to 0; no memory.
//!
//! Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `sample_heun` and
//! `sample_dpm_2`, without churn; Karras et al., algorithm 2,
//! <https://arxiv.org/abs/2206.00364>.

use candle_core::{Result, Tensor};

use super::arithmetic::{combine, ends, euler, slope};
use super::solver::{Denoiser, Solver, Stepped};
use super::step_noise::StepNoise;

/// Position of a step's second evaluation, and how its slope is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    /// At the step's end; the step follows the mean of both slopes: `heun`.
    End,
    /// At the geometric mean of both sigmas; the step follows this slope alone: `dpm_2`.
    Middle,
}

/// A solver of second order without memory.
pub struct TwoEvaluations {
    pub sigmas: Vec<f32>,
    pub second: Second,
}

impl TwoEvaluations {
    /// The sigma of the second evaluation; `None` for a step to 0.
    fn second_sigma(&self, step: usize) -> Option<f32> {
        let (sigma, next) = (self.sigmas[step], self.sigmas[step + 1]);
        match self.second {
            _ if next == 0.0 => None,
            Second::End => Some(next),
            Second::Middle => Some((f64::from(sigma) * f64::from(next)).sqrt() as f32),
        }
    }
}

impl Solver for TwoEvaluations {
    fn evaluations(&self, step: usize) -> Vec<f32> {
        let first = [self.sigmas[step]];
        first.into_iter().chain(self.second_sigma(step)).collect()
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
        let Some(second) = self.second_sigma(step) else {
            return Ok(Stepped {
                x: euler(x, &denoised, sigma, next)?,
                denoised,
            });
        };
        let x_second = euler(x, &denoised, sigma, f64::from(second))?;
        let denoised_second = model(&x_second, second)?;
        let slope_second = slope(&x_second, &denoised_second, f64::from(second))?;
        let x = match self.second {
            Second::Middle => combine((1.0, x), &[(next - sigma, &slope_second)])?,
            Second::End => {
                let first = slope(x, &denoised, sigma)?;
                let half = 0.5 * (next - sigma);
                combine((1.0, x), &[(half, &first), (half, &slope_second)])?
            }
        };
        Ok(Stepped { x, denoised })
    }
}
