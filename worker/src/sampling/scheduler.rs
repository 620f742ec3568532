//! Where a schedule's sigmas stand: ComfyUI's schedulers, and the model's own.
//!
//! Sources: ComfyUI 0.18.1 `comfy/samplers.py` (`SCHEDULER_HANDLERS`) and
//! `comfy/k_diffusion/sampling.py`.

use super::beta;
use super::table::FlowTable;

/// Shape of the beta distribution that the scheduler `beta` draws its times from.
const BETA_SHAPE: f64 = 0.6;

/// Exponent of the scheduler `karras`.
const KARRAS_RHO: f64 = 7.0;

/// How much noise the linear half of `linear_quadratic` removes.
const LINEAR_QUADRATIC_THRESHOLD: f64 = 0.025;

/// Below this a sigma counts as 0.
const ZERO: f64 = 1e-5;

/// A way to choose sigmas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// The model's own: times `linspace(1, 1/n, n)`, shifted.
    Flux,
    /// Evenly spaced positions of the table, from its top.
    Simple,
    /// Times evenly spaced between the shifted highest and lowest.
    Normal,
    /// As `normal`, with one time more, whose last is left out.
    SgmUniform,
    /// Evenly spaced positions of the table, from its bottom: often one step
    /// more than asked for, and not from 1.
    DdimUniform,
    /// Evenly spaced seventh roots.
    Karras,
    /// Evenly spaced logarithms.
    Exponential,
    /// Quantiles of a beta distribution: close together at both ends.
    Beta,
    /// Half of the steps linear and small, half of them quadratic.
    LinearQuadratic,
    /// Evenly spaced arc tangents.
    KlOptimal,
}

impl Scheduler {
    /// Every scheduler, in the order in which people choose from them.
    pub const ALL: [Self; 10] = [
        Self::Flux,
        Self::Simple,
        Self::Normal,
        Self::SgmUniform,
        Self::DdimUniform,
        Self::Karras,
        Self::Exponential,
        Self::Beta,
        Self::LinearQuadratic,
        Self::KlOptimal,
    ];

    /// Its name, as in ComfyUI.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flux => "flux",
            Self::Simple => "simple",
            Self::Normal => "normal",
            Self::SgmUniform => "sgm_uniform",
            Self::DdimUniform => "ddim_uniform",
            Self::Karras => "karras",
            Self::Exponential => "exponential",
            Self::Beta => "beta",
            Self::LinearQuadratic => "linear_quadratic",
            Self::KlOptimal => "kl_optimal",
        }
    }

    /// The scheduler of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Sigmas for at least 1 step, descending to 0. Most schedulers give one
    /// more than `steps`; `ddim_uniform` and `beta` may give another number.
    pub fn sigmas(self, table: &FlowTable, steps: usize) -> Vec<f32> {
        let (low, high) = (f64::from(table.lowest()), f64::from(table.highest()));
        let count = steps as f64;
        // `n` values from `start` to `end`; a single one is `start`.
        let spaced = |start: f64, end: f64, n: usize| {
            let apart = (end - start) / (n.max(2) - 1) as f64;
            (0..n).map(move |i| start + apart * i as f64)
        };
        let mut sigmas: Vec<f32> = match self {
            Self::Flux => (0..steps)
                .map(|i| table.sigma(1.0 - i as f64 / count))
                .collect(),
            Self::Simple => {
                let apart = table.positions() as f64 / count;
                (0..steps)
                    .map(|i| table.at(table.positions() - 1 - (i as f64 * apart) as usize))
                    .collect()
            }
            Self::Normal if f64::from(table.sigma(low)) <= ZERO => {
                let times = spaced(high, low, steps + 1);
                return times.map(|t| table.sigma(t)).collect();
            }
            Self::Normal => spaced(high, low, steps).map(|t| table.sigma(t)).collect(),
            Self::SgmUniform => spaced(high, low, steps + 1)
                .take(steps)
                .map(|t| table.sigma(t))
                .collect(),
            Self::DdimUniform => ddim_uniform(table, steps),
            Self::Karras => spaced(
                high.powf(KARRAS_RHO.recip()),
                low.powf(KARRAS_RHO.recip()),
                steps,
            )
            .map(|root| root.powf(KARRAS_RHO) as f32)
            .collect(),
            Self::Exponential => spaced(high.ln(), low.ln(), steps)
                .map(|log| log.exp() as f32)
                .collect(),
            Self::Beta => beta_quantiles(table, steps),
            Self::LinearQuadratic => linear_quadratic(steps)
                .map(|sigma| (sigma * high) as f32)
                .collect(),
            Self::KlOptimal => spaced(high.atan(), low.atan(), steps)
                .map(|angle| angle.tan() as f32)
                .collect(),
        };
        sigmas.push(0.0);
        sigmas
    }
}

/// Every so many positions of the table from its second on, highest first. A
/// second position that counts as 0 is left to stand for the last 0.
fn ddim_uniform(table: &FlowTable, steps: usize) -> Vec<f32> {
    let from_zero = f64::from(table.at(1)) <= ZERO;
    let apart = (table.positions() / (steps + usize::from(from_zero))).max(1);
    let mut sigmas: Vec<f32> = (1..table.positions())
        .step_by(apart)
        .skip(usize::from(from_zero))
        .map(|position| table.at(position))
        .collect();
    sigmas.reverse();
    sigmas
}

/// Positions at the quantiles of a beta distribution; of those that fall
/// together, one.
///
/// Source: Lee et al., <https://arxiv.org/abs/2407.12173>.
fn beta_quantiles(table: &FlowTable, steps: usize) -> Vec<f32> {
    let last = (table.positions() - 1) as f64;
    let mut positions: Vec<usize> = (0..steps)
        .map(|i| 1.0 - i as f64 / steps as f64)
        .map(|share| (beta::quantile(share, BETA_SHAPE) * last).round_ties_even() as usize)
        .collect();
    positions.dedup();
    positions.into_iter().map(|p| table.at(p)).collect()
}

/// Noise left over before each step, of 1: it is removed linearly up to a
/// threshold in the first half of the steps, then quadratically.
///
/// Source: genmoai/mochi `mochi_preview/infer.py` `linear_quadratic_schedule`.
fn linear_quadratic(steps: usize) -> impl Iterator<Item = f64> {
    let linear = steps / 2;
    let (n, total) = (linear as f64, steps as f64);
    let rest = total - n;
    let excess = n - LINEAR_QUADRATIC_THRESHOLD * total;
    (0..steps).map(move |i| {
        let i = i as f64;
        if i == 0.0 {
            return 1.0;
        }
        let linear_slope = LINEAR_QUADRATIC_THRESHOLD / n;
        if i < n {
            return 1.0 - i * linear_slope;
        }
        let square = excess / (n * rest * rest);
        let slope = linear_slope - 2.0 * excess / (rest * rest);
        1.0 - (square * i * i + slope * i + square * n * n)
    })
}
