//! `lms`: linear multistep (Adams-Bashforth on steps of unequal length).
//!
//! Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `sample_lms`.

use std::collections::VecDeque;

use candle_core::{Result, Tensor};

use super::arithmetic::{combine, ends, slope};
use super::snapshot::{self, Snapshot};
use super::solver::{Denoiser, Solver, Stepped};
use super::step_noise::StepNoise;

/// Integrates the polynomial through the last slopes, as many as its order.
pub struct Lms {
    pub sigmas: Vec<f32>,
    pub order: usize,
    /// The newest first.
    pub slopes: VecDeque<Tensor>,
}

impl Solver for Lms {
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
        if next == 0.0 {
            return Ok(Stepped {
                x: denoised.clone(),
                denoised,
            });
        }
        self.slopes.push_front(slope(x, &denoised, sigma)?);
        self.slopes.truncate(self.order);
        let nodes: Vec<f64> = (0..self.slopes.len())
            .map(|back| f64::from(self.sigmas[step - back]))
            .collect();
        let terms: Vec<_> = (0..nodes.len())
            .map(|j| (lagrange_integral(&nodes, j, next), &self.slopes[j]))
            .collect();
        let x = combine((1.0, x), &terms)?;
        Ok(Stepped { x, denoised })
    }

    fn save(&self, snapshot: &mut Snapshot) -> snapshot::Result<()> {
        for (back, slope) in self.slopes.iter().enumerate() {
            snapshot.put_tensor(&slope_name(back), slope)?;
        }
        Ok(())
    }

    fn restore(&mut self, snapshot: &Snapshot, step: usize, x: &Tensor) -> snapshot::Result<()> {
        let slopes =
            (0..step.min(self.order)).map(|back| snapshot.tensor_like(&slope_name(back), x));
        self.slopes = slopes.collect::<snapshot::Result<_>>()?;
        Ok(())
    }
}

/// Name in a snapshot of the slope `back` steps before the newest.
fn slope_name(back: usize) -> String {
    format!("solver.slope.{back}")
}

/// The integral from the first node to `end` of the Lagrange basis polynomial of node `j`,
/// which is 1 there and 0 at the other nodes.
fn lagrange_integral(nodes: &[f64], j: usize, end: f64) -> f64 {
    // Coefficients in the distance from the first node, lowest power first.
    let mut polynomial = vec![1.0];
    for (k, node) in nodes.iter().enumerate() {
        if k == j {
            continue;
        }
        let (root, scale) = (node - nodes[0], nodes[j] - node);
        let mut product = vec![0.0; polynomial.len() + 1];
        for (power, coefficient) in polynomial.iter().enumerate() {
            product[power] -= coefficient * root / scale;
            product[power + 1] += coefficient / scale;
        }
        polynomial = product;
    }
    let length = end - nodes[0];
    let terms = polynomial.iter().enumerate();
    terms
        .map(|(power, c)| c * length.powi(power as i32 + 1) / (power + 1) as f64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_steps_give_adams_bashforth() {
        let nodes = [3.0, 2.0, 1.0, 0.0];
        let ours: Vec<f64> = (0..4).map(|j| lagrange_integral(&nodes, j, 4.0)).collect();
        let known = [55.0, -59.0, 37.0, -9.0].map(|c| c / 24.0);
        for (a, b) in ours.iter().zip(known) {
            assert!((a - b).abs() < 1e-12, "{ours:?}");
        }
    }
}
