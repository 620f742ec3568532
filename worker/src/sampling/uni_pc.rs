//! `uni_pc`: a predictor and a corrector of up to third order that share their
//! evaluation.
//!
//! Source: ComfyUI 0.18.1 `extra_samplers/uni_pc.py` `sample_unipc`; Zhao et al.,
//! <https://arxiv.org/abs/2302.04867>.

use candle_core::{Result, Tensor};

use super::solver::{combine, scaled, slope, Denoiser, Solver, Stepped};
use super::step_noise::StepNoise;
use crate::nn::subtract;

/// Highest order.
const ORDER: usize = 3;

/// The sigma that stands for 0, whose logarithm there is none of. The result is
/// then still divided by 1 minus it, as leftover noise is.
const END: f32 = 0.001;

/// The paper's B(h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `h`
    Bh1,
    /// `exp(h) - 1`
    Bh2,
}

/// What the variance preserving process that ComfyUI's UniPC thinks in has at a
/// sigma. Its latents are those of the flow times `alpha`.
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
    /// Rounded to float32 on the way, as in ComfyUI: below a sigma of 0.01
    /// `1 - alpha^2` has few digits left, and others than these would give
    /// another image.
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

    /// What takes the flow's latents to the process.
    fn scale(self) -> f64 {
        (1.0 + f64::from(self.sigma).powi(2)).sqrt().recip()
    }
}

/// The float32 nearest to the logarithm, whatever the platform's own makes of it.
fn ln(x: f32) -> f32 {
    f64::from(x).ln() as f32
}

/// The float32 nearest to the exponential.
fn exp(x: f32) -> f32 {
    f64::from(x).exp() as f32
}

/// An estimate of the process's beginning, and where it was made.
struct Point {
    at: Process,
    estimate: Tensor,
}

/// Remembers up to three estimates, the newest first. A step first goes from the
/// last sigma to its own, and only the last one goes on from there. Between the
/// first step and the last, latents are the process's.
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
        // The last way is of first order, which may stand still.
        let (_, high) = lambdas.split_last().unwrap_or((&0.0, &[]));
        let usable = lambdas.iter().all(|lambda| lambda.is_finite())
            && high.windows(2).all(|near| near[0] < near[1]);
        Self {
            sigmas,
            // Where nothing is left of the digits, ComfyUI's image is black.
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

    /// Order of the way to the sigma of this number.
    fn order(&self, to: usize) -> usize {
        let most = ORDER.min(self.steps() - 1);
        if to < most {
            to
        } else {
            most.min(self.steps() + 1 - to)
        }
    }

    /// The model's denoised estimate, and the process's that follows from it.
    fn ask(&self, x: &Tensor, at: Process, model: &mut Denoiser<'_>) -> Result<(Tensor, Tensor)> {
        let seen = scaled(1.0 / at.scale(), x)?;
        let denoised = model(&seen, at.sigma)?;
        let noise = slope(&seen, &denoised, f64::from(at.sigma))?;
        let alpha = f64::from(at.alpha);
        let estimate = combine((1.0 / alpha, x), &[(-f64::from(at.std) / alpha, &noise)])?;
        Ok((denoised, estimate))
    }

    /// The part of a way that predictor and corrector share.
    fn way(&self, x: &Tensor, to: Process, order: usize) -> Result<Way> {
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
        Ok(Way {
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

/// A way to a sigma: first order, and what higher orders add.
struct Way {
    base: Tensor,
    differences: Vec<Tensor>,
    matrix: Vec<Vec<f64>>,
    right: Vec<f64>,
    factor: f64,
}

impl Way {
    fn predicted(&self) -> Result<Tensor> {
        let known = self.differences.len();
        let weights = match known {
            1 => vec![0.5],
            _ => solve(&self.matrix, &self.right, known),
        };
        self.corrected_by(&weights, None)
    }

    /// Given the difference that the estimate at the way's end makes.
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

/// Solves the upper left `n` equations of a system by elimination; its matrix is
/// Vandermonde's of distinct nodes, so no pivot is 0.
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
            let (denoised, estimate) = self.ask(&x, at, model)?;
            (x, denoised, estimate)
        } else {
            let way = self.way(x, at, self.order(step))?;
            let (denoised, estimate) = self.ask(&way.predicted()?, at, model)?;
            let difference = subtract(&estimate, &self.points[0].estimate)?;
            (way.corrected(&difference)?, denoised, estimate)
        };
        self.points.insert(0, Point { at, estimate });
        self.points.truncate(ORDER);
        if step + 1 == self.steps() {
            let end = (self.process)(self.sigmas[step + 1]);
            // ComfyUI's solver of a single step never leaves the noise.
            if step > 0 {
                x = self.way(&x, end, 1)?.predicted()?;
            }
            x = scaled(1.0 / f64::from(end.alpha), &x)?;
        }
        Ok(Stepped { x, denoised })
    }

    fn end(&self) -> Option<f32> {
        self.sigmas.last().copied()
    }
}
