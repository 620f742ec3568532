//! `res_multistep`: the exponential integrator of second order, with memory.
//!
//! Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `sample_res_multistep`
//! (`res_multistep` with eta 0); Zhang et al., <https://arxiv.org/abs/2308.02157>.

use candle_core::{Result, Tensor};

use super::solver::{combine, ends, euler, Denoiser, Solver, Stepped};
use super::step_noise::StepNoise;

/// Remembers the last denoised estimate.
pub struct ResMultistep {
    pub sigmas: Vec<f32>,
    pub last: Option<Tensor>,
}

impl Solver for ResMultistep {
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
        let x = match &self.last {
            Some(last) if next > 0.0 => {
                let h = (sigma / next).ln();
                let c2 = (sigma / f64::from(self.sigmas[step - 1])).ln() / h;
                let phi1 = (-h).exp_m1() / -h;
                let phi2 = (phi1 - 1.0) / -h;
                let old = h * phi2 / c2;
                combine(
                    (next / sigma, x),
                    &[(h * phi1 - old, &denoised), (old, last)],
                )?
            }
            _ => euler(x, &denoised, sigma, next)?,
        };
        self.last = Some(denoised.clone());
        Ok(Stepped { x, denoised })
    }
}
