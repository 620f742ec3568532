//! `res_multistep`: the second-order exponential integrator in its multistep form.
//!
//! Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `sample_res_multistep`
//! (`res_multistep` with eta 0); Zhang et al., <https://arxiv.org/abs/2308.02157>.

use candle_core::{Result, Tensor};

use super::arithmetic::combine;
use super::two_step::Estimates;

/// A step that extrapolates from the last denoised estimate and the new one.
///
/// # Errors
/// The device fails.
pub fn res_multistep(at: &Estimates<'_>) -> Result<Tensor> {
    let h = (at.sigma / at.next).ln();
    let c2 = (at.sigma / at.before).ln() / h;
    let phi1 = (-h).exp_m1() / -h;
    let phi2 = (phi1 - 1.0) / -h;
    let old = h * phi2 / c2;
    combine(
        (at.next / at.sigma, at.x),
        &[(h * phi1 - old, at.denoised), (old, at.last)],
    )
}
