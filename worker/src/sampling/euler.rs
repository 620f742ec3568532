//! Solvers of the probability-flow ODE.

use candle_core::{Result, Tensor};

/// Names a request may use.
pub const SAMPLERS: &[&str] = &["euler"];

/// One Euler step of `dx/dsigma = velocity`.
///
/// # Errors
/// The device fails.
pub fn euler_step(x: &Tensor, velocity: &Tensor, sigma: f32, next: f32) -> Result<Tensor> {
    x + (velocity * f64::from(next - sigma))?
}
