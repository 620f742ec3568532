//! `res_multistep`: the second-order exponential integrator in its multistep form.
//!
//! Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `sample_res_multistep`
//! (`res_multistep` with eta 0); Zhang et al., <https://arxiv.org/abs/2308.02157>.

use candle_core::{Result, Tensor};

use super::arithmetic::{combine, ends, euler};
use super::last_estimate::LastEstimate;
use super::snapshot::{self, Snapshot};
use super::solver::{Denoiser, Solver, Stepped};
use super::step_noise::StepNoise;

/// Extrapolates from the last denoised estimate and the new one.
pub struct ResMultistep {
    pub sigmas: Vec<f32>,
    pub last: LastEstimate,
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
        let x = match self.last.get() {
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
