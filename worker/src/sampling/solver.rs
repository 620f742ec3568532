//! What every solver is: a state that takes a latent from one sigma to the next.

use candle_core::{Result, Tensor};

use super::step_noise::StepNoise;
use crate::nn::{scaled_sum, subtract};

/// The model: latents and their sigma to the denoised estimate.
pub type Denoiser<'a> = dyn FnMut(&Tensor, f32) -> Result<Tensor> + 'a;

/// What a step gives.
pub struct Stepped {
    /// The latents at the next sigma.
    pub x: Tensor,
    /// What the model saw the image to be at the step's beginning.
    pub denoised: Tensor,
}

/// A solver of one job, with what it remembers of earlier steps. Latents are
/// float32 of one shape on one device; steps count from 0 and are taken in order.
pub trait Solver {
    /// The sigmas at which a step asks the model.
    fn evaluations(&self, step: usize) -> Vec<f32>;

    /// Takes a step.
    ///
    /// # Errors
    /// The model or the device fails.
    fn step(
        &mut self,
        step: usize,
        x: &Tensor,
        model: &mut Denoiser<'_>,
        noise: &mut dyn StepNoise,
    ) -> Result<Stepped>;

    /// The sigma at which the last step ends, where it is not the schedule's.
    fn end(&self) -> Option<f32> {
        None
    }
}

/// The two sigmas of a step, for arithmetic.
pub fn ends(sigmas: &[f32], step: usize) -> (f64, f64) {
    (f64::from(sigmas[step]), f64::from(sigmas[step + 1]))
}

/// A sum of tensors times numbers, of which there is at least one.
///
/// # Errors
/// The device fails.
pub fn combine(first: (f64, &Tensor), rest: &[(f64, &Tensor)]) -> Result<Tensor> {
    scaled_sum(&[&[first], rest].concat())
}

/// A tensor times a number.
///
/// # Errors
/// The device fails.
pub fn scaled(factor: f64, x: &Tensor) -> Result<Tensor> {
    scaled_sum(&[(factor, x)])
}

/// `(x - denoised) / sigma`, subtracted first: the two are close where sigma is small.
///
/// # Errors
/// The device fails.
pub fn slope(x: &Tensor, denoised: &Tensor, sigma: f64) -> Result<Tensor> {
    scaled(1.0 / sigma, &subtract(x, denoised)?)
}

/// One Euler step of `dx/dsigma = (x - denoised) / sigma`.
///
/// # Errors
/// The device fails.
pub fn euler(x: &Tensor, denoised: &Tensor, sigma: f64, next: f64) -> Result<Tensor> {
    if next == 0.0 {
        return Ok(denoised.clone());
    }
    let kept = next / sigma;
    combine((kept, x), &[(1.0 - kept, denoised)])
}

/// Half the logarithm of the signal to noise ratio of a rectified flow:
/// `ln((1 - sigma) / sigma)`.
///
/// Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `sigma_to_half_log_snr`.
pub fn half_log_snr(sigma: f64) -> f64 {
    ((1.0 - sigma) / sigma).ln()
}

/// Where an ancestral step goes down to, and how much noise it adds there.
///
/// Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `get_ancestral_step`. In its
/// float32 the difference of squares loses most of its digits where a step goes
/// far, in a way that differs between processors; here it does not.
pub fn ancestral(from: f64, to: f64, eta: f64) -> (f64, f64) {
    let up = (eta * to * (1.0 - (to / from).powi(2)).sqrt()).min(to);
    ((to * to - up * up).sqrt(), up)
}
