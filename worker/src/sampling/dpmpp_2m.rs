//! `dpmpp_2m` and `dpmpp_2m_sde`: second-order multistep solvers, which remember the last
//! denoised estimate.
//!
//! Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `sample_dpmpp_2m` and
//! `sample_dpmpp_2m_sde`; Lu et al., <https://arxiv.org/abs/2211.01095>.

use candle_core::{Result, Tensor};

use super::arithmetic::{combine, ends, euler, half_log_snr};
use super::last_estimate::LastEstimate;
use super::snapshot::{self, Snapshot};
use super::solver::{Denoiser, Solver, Stepped};
use super::step_noise::StepNoise;
use super::two_step::Estimates;

/// A step of DPM-Solver++(2M), over the logarithm of sigma.
///
/// # Errors
/// The device fails.
pub fn dpmpp_2m(at: &Estimates<'_>) -> Result<Tensor> {
    let ratio = (at.before / at.sigma).ln() / (at.sigma / at.next).ln();
    let extra = 1.0 / (2.0 * ratio);
    let ahead = combine((1.0 + extra, at.denoised), &[(-extra, at.last)])?;
    euler(at.x, &ahead, at.sigma, at.next)
}

/// How `dpmpp_2m_sde` corrects a step by the last estimate: its `solver_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// `midpoint`
    Midpoint,
    /// `heun`
    Heun,
}

/// The stochastic DPM-Solver++(2M), which steps over half the logarithm of the signal-to-noise
/// ratio. The first of its `sigmas` must be below 1, where that logarithm is finite.
pub struct Dpmpp2mSde {
    pub sigmas: Vec<f32>,
    /// Share of the noise that is replaced.
    pub eta: f64,
    /// Factor on the new noise.
    pub s_noise: f64,
    pub correction: Correction,
    pub last: LastEstimate,
}

impl Dpmpp2mSde {
    /// The length of a step that does not end at 0, in half the logarithm of the
    /// signal-to-noise ratio.
    fn length(&self, step: usize) -> f64 {
        let (sigma, next) = ends(&self.sigmas, step);
        half_log_snr(next) - half_log_snr(sigma)
    }
}

impl Solver for Dpmpp2mSde {
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
        if next == 0.0 {
            return Ok(Stepped {
                x: denoised.clone(),
                denoised,
            });
        }
        let h = self.length(step);
        let h_eta = h * (self.eta + 1.0);
        let gain = -(-h_eta).exp_m1();
        let signal = 1.0 - next;
        let kept = next / sigma * (-h * self.eta).exp();
        let mut x = combine((kept, x), &[(signal * gain, &denoised)])?;
        if let Some(last) = self.last.get() {
            let change = match self.correction {
                Correction::Midpoint => 0.5 * gain,
                Correction::Heun => 1.0 - gain / h_eta,
            };
            let factor = signal * change * h / self.length(step - 1);
            x = combine((1.0, &x), &[(factor, &denoised), (-factor, last)])?;
        }
        if self.eta > 0.0 && self.s_noise > 0.0 {
            let fresh = noise.between(self.sigmas[step], self.sigmas[step + 1])?;
            let spread = next * (-(-2.0 * h * self.eta).exp_m1()).sqrt();
            x = combine((1.0, &x), &[(spread * self.s_noise, &fresh)])?;
        }
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
