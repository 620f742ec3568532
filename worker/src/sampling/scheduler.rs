//! The schedulers, which choose the sigmas of a schedule: ComfyUI's and the model's own.
//!
//! Sources: ComfyUI 0.18.1 `comfy/samplers.py` (`SCHEDULER_HANDLERS`) and
//! `comfy/k_diffusion/sampling.py`.

use super::beta;
use super::table::FlowTable;

/// Both parameters of the beta distribution whose quantiles are the times of `beta`.
const BETA_SHAPE: f64 = 0.6;

/// Exponent rho of `karras`.
const KARRAS_RHO: f64 = 7.0;

/// Share of the noise that the linear half of `linear_quadratic` removes.
const LINEAR_QUADRATIC_THRESHOLD: f64 = 0.025;

/// A sigma up to this counts as 0.
const ZERO: f64 = 1e-5;

/// A rule that chooses the sigmas of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// The model's own: the times `linspace(1, 1/n, n)`, shifted.
    Flux,
    /// Evenly spaced positions of the table, from the highest.
    Simple,
    /// Evenly spaced times from the table's highest sigma to its lowest, shifted.
    Normal,
    /// [`Normal`](Self::Normal) with one time more, of which the last is left out.
    SgmUniform,
    /// Evenly spaced positions of the table, from the lowest. It often has one step more than
    /// requested, and does not start at 1.
    DdimUniform,
    /// Evenly spaced seventh roots of sigma.
    Karras,
    /// Evenly spaced logarithms of sigma.
    Exponential,
    /// Positions at quantiles of a beta distribution, which are dense at both ends.
    Beta,
    /// A first half of small, linear steps, then a half that grows quadratically.
    LinearQuadratic,
    /// Evenly spaced arctangents of sigma.
    KlOptimal,
}

impl Scheduler {
    /// All schedulers, in the order in which they are listed to people.
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

    /// The scheduler's name, which is ComfyUI's.
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

    /// The sigmas of a schedule of at least 1 step, descending to 0. Most schedulers return
    /// `steps + 1` of them; `ddim_uniform` and `beta` may return another number.
    pub fn sigmas(self, table: &FlowTable, steps: usize) -> Vec<f32> {
        let (low, high) = (f64::from(table.lowest()), f64::from(table.highest()));
        let count = steps as f64;
        // `n` evenly spaced values from `start` to `end`; for n = 1 only `start`.
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

/// Evenly spaced positions of the table from the second lowest on, highest first. If the second
/// lowest sigma counts as 0, it is left out in favour of the schedule's final 0.
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

/// Positions of the table at the quantiles of a beta distribution, without repeated ones.
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

/// The sigma before each step, for a highest sigma of 1. The first half of the steps removes
/// noise linearly up to a threshold, the second half quadratically.
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
