//! `uni_pc`: a predictor and a corrector of up to third order that share one evaluation a
//! step.
//!
//! Source: ComfyUI 0.18.1 `extra_samplers/uni_pc.py` `sample_unipc`; Zhao et al.,
//! <https://arxiv.org/abs/2302.04867>.

use candle_core::{Result, Tensor};

use super::arithmetic::{combine, scaled, slope};
use super::snapshot::{self, Snapshot};
use super::solver::{Denoiser, Solver, Stepped};
use super::step_noise::StepNoise;
use crate::nn::subtract;

/// Highest order.
const ORDER: usize = 3;

/// The sigma that replaces 0, which has no logarithm. The result is still divided by 1 minus
/// it, as leftover noise is.
const END: f32 = 0.001;

/// The paper's function B(h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `h`
    Bh1,
    /// `exp(h) - 1`
    Bh2,
}

/// The variance-preserving process at one of the flow's sigmas. ComfyUI's UniPC works in that
/// process; its latents are the flow's times `alpha`.
///
/// Source: ComfyUI 0.18.1 `extra_samplers/uni_pc.py` `SigmaConvert`.
#[derive(Clone, Copy)]
struct Process {
    sigma: f32,
    alpha: f32,
    std: f32,
    lambda: f32,
}

impl Process {
    /// With ComfyUI's float32 rounding of every intermediate value. Below a sigma of 0.01
    /// `1 - alpha^2` keeps few digits, so other rounding would give another image.
    fn rounded(sigma: f32) -> Self {
        let log_alpha = 0.5 * ln(1.0 / (sigma * sigma + 1.0));
        let variance = 1.0 - exp(2.0 * log_alpha);
        Self {
            sigma,
            alpha: exp(log_alpha),
            std: variance.sqrt(),
            lambda: log_alpha - 0.5 * ln(variance),
        }
    }

    /// With intermediate values in float64.
    fn exact(sigma: f32) -> Self {
        let wide = f64::from(sigma);
        let alpha = (1.0 + wide * wide).sqrt().recip();
        Self {
            sigma,
            alpha: alpha as f32,
            std: (wide * alpha) as f32,
            lambda: -wide.ln() as f32,
        }
    }

    /// The factor from the flow's latents to the process's.
    fn scale(self) -> f64 {
        (1.0 + f64::from(self.sigma).powi(2)).sqrt().recip()
    }
}

/// The float32 nearest to the logarithm: platforms' own float32 functions differ.
fn ln(x: f32) -> f32 {
    f64::from(x).ln() as f32
}

/// The float32 nearest to the exponential.
fn exp(x: f32) -> f32 {
    f64::from(x).exp() as f32
}

/// An estimate of the process's clean latents, and the sigma it was made at.
struct Point {
    at: Process,
    estimate: Tensor,
}

/// The solver, with up to three estimates, the newest first. A step predicts from the last
/// sigma to its own, evaluates there and corrects; only the last step then goes on to the end.
/// So between the first step and the last, latents belong to the process, not the flow.
pub struct UniPc {
    sigmas: Vec<f32>,
    process: fn(f32) -> Process,
    variant: Variant,
    points: Vec<Point>,
}

impl UniPc {
    /// For at least one step.
    pub fn new(mut sigmas: Vec<f32>, variant: Variant) -> Self {
        if let Some(last) = sigmas.last_mut().filter(|last| **last == 0.0) {
            *last = END;
        }
        let lambdas = sigmas.iter().map(|sigma| Process::rounded(*sigma).lambda);
        let lambdas: Vec<f32> = lambdas.collect();
        // The step to the last sigma is of first order, for which two lambdas may be equal.
        let (_, high) = lambdas.split_last().unwrap_or((&0.0, &[]));
        let usable = lambdas.iter().all(|lambda| lambda.is_finite())
            && high.windows(2).all(|near| near[0] < near[1]);
        Self {
            sigmas,
            // Where float32 cancels completely, ComfyUI returns a black image; then we compute
            // in float64.
            process: if usable {
                Process::rounded
            } else {
                Process::exact
            },
            variant,
            points: Vec::new(),
        }
    }

    fn steps(&self) -> usize {
        self.sigmas.len() - 1
    }

    /// Order of the prediction to the sigma of index `to`.
    fn order(&self, to: usize) -> usize {
        let most = ORDER.min(self.steps() - 1);
        if to < most {
            to
        } else {
            most.min(self.steps() + 1 - to)
        }
    }

    /// The model's denoised estimate, and the process's estimate computed from it.
    fn evaluate(
        &self,
        x: &Tensor,
        at: Process,
        model: &mut Denoiser<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let seen = scaled(1.0 / at.scale(), x)?;
        let denoised = model(&seen, at.sigma)?;
        let noise = slope(&seen, &denoised, f64::from(at.sigma))?;
        let alpha = f64::from(at.alpha);
        let estimate = combine((1.0 / alpha, x), &[(-f64::from(at.std) / alpha, &noise)])?;
        Ok((denoised, estimate))
    }

    /// The part of a transition to a sigma that predictor and corrector share.
    fn transition(&self, x: &Tensor, to: Process, order: usize) -> Result<Transition> {
        let newest = &self.points[0];
        let h = to.lambda - newest.at.lambda;
        let mut nodes = Vec::with_capacity(order);
        let mut differences = Vec::with_capacity(order);
        for point in &self.points[1..order] {
            let node = (point.at.lambda - newest.at.lambda) / h;
            let difference = slope(&point.estimate, &newest.estimate, f64::from(node))?;
            differences.push(difference);
            nodes.push(node);
        }
        nodes.push(1.0);
        let hh = -h;
        let gain = hh.exp_m1();
        let b_h = match self.variant {
            Variant::Bh1 => hh,
            Variant::Bh2 => gain,
        };
        let mut matrix = Vec::with_capacity(order);
        let mut right = Vec::with_capacity(order);
        let (mut phi, mut factorial) = (gain / hh - 1.0, 1.0);
        for i in 1..=order {
            let powers = nodes.iter().map(|node| f64::from(node.powi(i as i32 - 1)));
            matrix.push(powers.collect());
            right.push(f64::from(phi * factorial / b_h));
            factorial *= (i + 1) as f32;
            phi = phi / hh - 1.0 / factorial;
        }
        let kept = f64::from(to.std / newest.at.std);
        Ok(Transition {
            base: combine(
                (kept, x),
                &[(f64::from(-to.alpha * gain), &newest.estimate)],
            )?,
            differences,
            matrix,
            right,
            factor: f64::from(-to.alpha * b_h),
        })
    }
}

/// A transition to a sigma: a first-order result, and the linear system whose solution weighs
/// the differences that higher orders add.
struct Transition {
    base: Tensor,
    differences: Vec<Tensor>,
    matrix: Vec<Vec<f64>>,
    right: Vec<f64>,
    factor: f64,
}

impl Transition {
    fn predicted(&self) -> Result<Tensor> {
        let known = self.differences.len();
        let weights = match known {
            1 => vec![0.5],
            _ => solve(&self.matrix, &self.right, known),
        };
        self.corrected_by(&weights, None)
    }

    /// Corrected by `difference`, that of the estimate at the transition's end.
    fn corrected(&self, difference: &Tensor) -> Result<Tensor> {
        let weights = match self.differences.len() {
            0 => vec![0.5],
            known => solve(&self.matrix, &self.right, known + 1),
        };
        self.corrected_by(&weights, Some(difference))
    }

    fn corrected_by(&self, weights: &[f64], last: Option<&Tensor>) -> Result<Tensor> {
        let all = self.differences.iter().chain(last);
        let terms: Vec<_> = weights.iter().map(|w| self.factor * w).zip(all).collect();
        combine((1.0, &self.base), &terms)
    }
}

/// Name in a snapshot of the estimate `back` steps before the newest.
fn estimate_name(back: usize) -> String {
    format!("solver.estimate.{back}")
}

/// Solves the upper left `n` equations of a system by elimination. The matrix is a Vandermonde
/// matrix of distinct nodes, so no pivot is 0.
fn solve(matrix: &[Vec<f64>], right: &[f64], n: usize) -> Vec<f64> {
    let mut rows: Vec<Vec<f64>> = (0..n).map(|i| matrix[i][..n].to_vec()).collect();
    let mut values = right[..n].to_vec();
    for pivot in 0..n {
        let (pivot_row, pivot_value) = (rows[pivot].clone(), values[pivot]);
        for row in (0..n).filter(|row| *row != pivot) {
            let factor = rows[row][pivot] / pivot_row[pivot];
            for (entry, above) in rows[row].iter_mut().zip(&pivot_row) {
                *entry -= factor * above;
            }
            values[row] -= factor * pivot_value;
        }
    }
    (0..n).map(|i| values[i] / rows[i][i]).collect()
}

impl Solver for UniPc {
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
        let at = (self.process)(self.sigmas[step]);
        let (mut x, denoised, estimate) = if step == 0 {
            let x = scaled(at.scale(), x)?;
            let (denoised, estimate) = self.evaluate(&x, at, model)?;
            (x, denoised, estimate)
        } else {
            let transition = self.transition(x, at, self.order(step))?;
            let (denoised, estimate) = self.evaluate(&transition.predicted()?, at, model)?;
            let difference = subtract(&estimate, &self.points[0].estimate)?;
            (transition.corrected(&difference)?, denoised, estimate)
        };
        self.points.insert(0, Point { at, estimate });
        self.points.truncate(ORDER);
        if step + 1 == self.steps() {
            let end = (self.process)(self.sigmas[step + 1]);
            // With a single step, ComfyUI's solver returns the noise, only scaled.
            if step > 0 {
                x = self.transition(&x, end, 1)?.predicted()?;
            }
            x = scaled(1.0 / f64::from(end.alpha), &x)?;
        }
        Ok(Stepped { x, denoised })
    }

    fn end(&self) -> Option<f32> {
        self.sigmas.last().copied()
    }

    fn save(&self, snapshot: &mut Snapshot) -> snapshot::Result<()> {
        for (back, point) in self.points.iter().enumerate() {
            snapshot.put_tensor(&estimate_name(back), &point.estimate)?;
        }
        Ok(())
    }

    fn restore(&mut self, snapshot: &Snapshot, step: usize, x: &Tensor) -> snapshot::Result<()> {
        let points = (0..step.min(ORDER)).map(|back| {
            Ok(Point {
                at: (self.process)(self.sigmas[step - 1 - back]),
                estimate: snapshot.tensor_like(&estimate_name(back), x)?,
            })
        });
        self.points = points.collect::<snapshot::Result<_>>()?;
        Ok(())
    }
}
