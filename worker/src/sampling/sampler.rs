//! The solvers that a request can name, and their options.

use std::collections::VecDeque;

use ovis_protocol::SamplerOptions;

use super::dpmpp_2m::{dpmpp_2m, Correction, Dpmpp2mSde};
use super::dpmpp_sde::DpmppSde;
use super::euler::{Euler, EulerAncestral};
use super::heun::{Second, TwoEvaluations};
use super::last_estimate::LastEstimate;
use super::lms::Lms;
use super::res_multistep::res_multistep;
use super::solver::Solver;
use super::table::FlowTable;
use super::two_step::TwoStep;
use super::uni_pc::{UniPc, Variant};

/// Names of all solvers, which are ComfyUI's.
pub const SAMPLERS: &[&str] = &[
    "euler",
    "euler_ancestral",
    "heun",
    "dpm_2",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_sde",
    "res_multistep",
    "uni_pc",
    "lms",
    "ddim",
];

/// Highest order of `lms`; above it, extrapolation only amplifies errors.
const MAX_LMS_ORDER: u32 = 10;

/// Largest allowed `eta` and `s_noise`.
const MAX_STRENGTH: f64 = 100.0;

/// Why a request's solver or one of its options is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, as a part of a sentence.
    pub message: String,
    /// What to do about it, as a sentence.
    pub hint: String,
}

/// Source of the noise that a stochastic solver adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseKind {
    /// One draw of PyTorch's generator a step, as in ComfyUI.
    Seeded,
    /// A Brownian motion over sigma.
    Brownian,
}

/// A solver with its options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// `euler`
    Euler,
    /// `ddim`
    Ddim,
    /// `euler_ancestral`
    EulerAncestral {
        /// Share of the noise that is replaced.
        eta: f64,
        /// Factor on the new noise.
        s_noise: f64,
    },
    /// `heun`
    Heun,
    /// `dpm_2`
    Dpm2,
    /// `dpmpp_2m`
    Dpmpp2m,
    /// `dpmpp_2m_sde`
    Dpmpp2mSde {
        /// Share of the noise that is replaced.
        eta: f64,
        /// Factor on the new noise.
        s_noise: f64,
        /// How a step is corrected by the last estimate.
        correction: Correction,
    },
    /// `dpmpp_sde`
    DpmppSde {
        /// Share of the noise that is replaced.
        eta: f64,
        /// Factor on the new noise.
        s_noise: f64,
        /// Position of the second evaluation in the step.
        r: f64,
    },
    /// `res_multistep`
    ResMultistep,
    /// `uni_pc`
    UniPc(Variant),
    /// `lms`
    Lms {
        /// How many slopes the polynomial goes through.
        order: usize,
    },
}

impl Sampler {
    /// The solver of this name with these options; an option that is left out
    /// has ComfyUI's default.
    ///
    /// # Errors
    /// The name is unknown, the solver does not have one of the options, or an
    /// option is out of range.
    pub fn new(name: &str, options: &SamplerOptions) -> Result<Self, Refusal> {
        let mut taken = Options {
            name,
            rest: options.clone(),
        };
        let sampler = match name {
            "euler" => Self::Euler,
            "ddim" => Self::Ddim,
            "heun" => Self::Heun,
            "dpm_2" => Self::Dpm2,
            "dpmpp_2m" => Self::Dpmpp2m,
            "res_multistep" => Self::ResMultistep,
            "euler_ancestral" => Self::EulerAncestral {
                eta: taken.eta()?,
                s_noise: taken.s_noise()?,
            },
            "dpmpp_2m_sde" => Self::Dpmpp2mSde {
                eta: taken.eta()?,
                s_noise: taken.s_noise()?,
                correction: taken.solver_type(&[
                    ("midpoint", Correction::Midpoint),
                    ("heun", Correction::Heun),
                ])?,
            },
            "dpmpp_sde" => Self::DpmppSde {
                eta: taken.eta()?,
                s_noise: taken.s_noise()?,
                r: taken.r()?,
            },
            "uni_pc" => {
                Self::UniPc(taken.solver_type(&[("bh1", Variant::Bh1), ("bh2", Variant::Bh2)])?)
            }
            "lms" => Self::Lms {
                order: taken.order()?,
            },
            _ => {
                return Err(Refusal {
                    message: format!("there is no sampler called `{name}`"),
                    hint: format!("Choose one of: {}.", SAMPLERS.join(", ")),
                })
            }
        };
        taken.none_left()?;
        Ok(sampler)
    }

    /// Whether the solver skips the last sigma before 0.
    ///
    /// Source: ComfyUI 0.18.1 `samplers.py` `DISCARD_PENULTIMATE_SIGMA_SAMPLERS`.
    pub fn drops_penultimate(self) -> bool {
        matches!(self, Self::Dpm2 | Self::UniPc(_))
    }

    /// Whether the latents that a noise mask keeps get newly drawn noise instead of the initial
    /// noise.
    ///
    /// Source: ComfyUI 0.18.1 `samplers.py` `sampler_object`.
    pub(super) fn masks_with_other_noise(self) -> bool {
        self == Self::Ddim
    }

    /// Source of the noise that the solver adds, if it adds any.
    pub(super) fn noise(self) -> NoiseKind {
        match self {
            Self::Dpmpp2mSde { .. } | Self::DpmppSde { .. } => NoiseKind::Brownian,
            _ => NoiseKind::Seeded,
        }
    }

    /// The solver of a job over these sigmas, at least two.
    pub(super) fn solver(self, mut sigmas: Vec<f32>, table: &FlowTable) -> Box<dyn Solver> {
        if self.noise() == NoiseKind::Brownian && sigmas[0] >= 1.0 {
            sigmas[0] = table.first_with_signal();
        }
        match self {
            Self::Euler | Self::Ddim => Box::new(Euler { sigmas }),
            Self::EulerAncestral { eta, s_noise } => Box::new(EulerAncestral {
                sigmas,
                eta,
                s_noise,
            }),
            Self::Heun => Box::new(TwoEvaluations {
                sigmas,
                second: Second::End,
            }),
            Self::Dpm2 => Box::new(TwoEvaluations {
                sigmas,
                second: Second::Middle,
            }),
            Self::Dpmpp2m => Box::new(TwoStep::new(sigmas, dpmpp_2m)),
            Self::Dpmpp2mSde {
                eta,
                s_noise,
                correction,
            } => Box::new(Dpmpp2mSde {
                sigmas,
                eta,
                s_noise,
                correction,
                last: LastEstimate::default(),
            }),
            Self::DpmppSde { eta, s_noise, r } => Box::new(DpmppSde {
                sigmas,
                eta,
                s_noise,
                r,
            }),
            Self::ResMultistep => Box::new(TwoStep::new(sigmas, res_multistep)),
            Self::UniPc(variant) => Box::new(UniPc::new(sigmas, variant)),
            Self::Lms { order } => Box::new(Lms {
                sigmas,
                order,
                slopes: VecDeque::new(),
            }),
        }
    }
}

/// The options of a request. A solver takes those it has; any that is left over is refused.
struct Options<'a> {
    /// The solver's name, for errors.
    name: &'a str,
    rest: SamplerOptions,
}

impl Options<'_> {
    fn eta(&mut self) -> Result<f64, Refusal> {
        strength("eta", self.rest.eta.take())
    }

    fn s_noise(&mut self) -> Result<f64, Refusal> {
        strength("s_noise", self.rest.s_noise.take())
    }

    fn r(&mut self) -> Result<f64, Refusal> {
        let r = self.rest.r.take().unwrap_or(0.5);
        if r > 0.0 && r <= 1.0 {
            return Ok(r);
        }
        Err(Refusal {
            message: format!("r is {r}, outside 0 to 1"),
            hint: "0.5 asks the model in the middle of a step.".into(),
        })
    }

    fn order(&mut self) -> Result<usize, Refusal> {
        let order = self.rest.order.take().unwrap_or(4);
        if (1..=MAX_LMS_ORDER).contains(&order) {
            return Ok(order as usize);
        }
        Err(Refusal {
            message: format!("order is {order}, outside 1 to {MAX_LMS_ORDER}"),
            hint: "4 is ComfyUI's.".into(),
        })
    }

    /// The named one of `types`, of which the first is the default.
    fn solver_type<T: Copy>(&mut self, types: &[(&str, T)]) -> Result<T, Refusal> {
        let Some(wanted) = self.rest.solver_type.take() else {
            return Ok(types[0].1);
        };
        let known = types.iter().find(|(name, _)| *name == wanted);
        known.map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<_> = types.iter().map(|(name, _)| *name).collect();
            Refusal {
                message: format!("{} has no solver type `{wanted}`", self.name),
                hint: format!("Choose one of: {}.", names.join(", ")),
            }
        })
    }

    fn none_left(&self) -> Result<(), Refusal> {
        let SamplerOptions {
            eta,
            s_noise,
            r,
            order,
            solver_type,
        } = &self.rest;
        let left = [
            ("eta", eta.is_some()),
            ("s_noise", s_noise.is_some()),
            ("r", r.is_some()),
            ("order", order.is_some()),
            ("solver_type", solver_type.is_some()),
        ];
        match left.iter().find(|(_, is_set)| *is_set) {
            None => Ok(()),
            Some((option, _)) => Err(Refusal {
                message: format!("{} has no option `{option}`", self.name),
                hint: "Leave it out, or choose another sampler.".into(),
            }),
        }
    }
}

/// The value of `eta` or `s_noise`, 1 by default.
fn strength(option: &str, value: Option<f64>) -> Result<f64, Refusal> {
    let value = value.unwrap_or(1.0);
    if (0.0..=MAX_STRENGTH).contains(&value) {
        return Ok(value);
    }
    Err(Refusal {
        message: format!("{option} is {value}, outside 0 to {MAX_STRENGTH}"),
        hint: "1 is ComfyUI's; 0 adds no noise.".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_solver() {
        for name in SAMPLERS {
            let sampler = Sampler::new(name, &SamplerOptions::default()).unwrap();
            let solver = sampler.solver(vec![1.0, 0.5, 0.0], &FlowTable::constant(3.0));
            assert!(!solver.evaluations(0).is_empty());
        }
    }

    #[test]
    fn what_a_solver_does_not_have_is_refused() {
        let refusal = |name: &str, options: SamplerOptions| {
            let refusal = Sampler::new(name, &options).unwrap_err();
            assert!(!refusal.hint.is_empty());
            refusal.message
        };
        let options = SamplerOptions::default;
        let eta = |value| SamplerOptions {
            eta: Some(value),
            ..options()
        };
        assert!(refusal("dpm_fast", options()).contains("`dpm_fast`"));
        assert!(refusal("euler", eta(1.0)).contains("no option `eta`"));
        assert!(refusal("dpmpp_sde", eta(f64::NAN)).contains("eta is NaN"));
        let kind = SamplerOptions {
            solver_type: Some("bh1".into()),
            ..options()
        };
        assert!(refusal("dpmpp_2m_sde", kind).contains("solver type `bh1`"));
        let r = SamplerOptions {
            r: Some(0.0),
            ..options()
        };
        assert!(refusal("dpmpp_sde", r).contains("r is 0"));
        let order = SamplerOptions {
            order: Some(0),
            ..options()
        };
        assert!(refusal("lms", order).contains("order is 0"));
    }
}
