//! The sigmas that a job goes through: a schedule, and the requested part of it.
//!
//! Source: ComfyUI 0.18.1 `comfy/samplers.py` `KSampler` (`calculate_sigmas`,
//! `set_steps`, `sample`).

use super::scheduler::Scheduler;
use super::table::FlowTable;

/// Above this denoise strength a job runs the whole schedule.
const WHOLE: f64 = 0.9999;

/// The part of a schedule that a job runs: the start and end steps of KSamplerAdvanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Number of steps that are left out at the beginning.
    pub start: usize,
    /// The step before which the job ends; `None` runs to the end.
    pub end: Option<usize>,
    /// Whether a job that ends early keeps the noise that is left at that point,
    /// instead of removing it with its last step.
    pub leftover_noise: bool,
}

impl Window {
    /// All steps.
    pub const WHOLE: Self = Self {
        start: 0,
        end: None,
        leftover_noise: false,
    };

    /// The part of `sigmas` in the window; empty if the window has no step.
    pub fn of(self, mut sigmas: Vec<f32>) -> Vec<f32> {
        if let Some(end) = self.end {
            if end + 1 < sigmas.len() {
                sigmas.truncate(end + 1);
                if let (false, Some(last)) = (self.leftover_noise, sigmas.last_mut()) {
                    *last = 0.0;
                }
            }
        }
        if self.start + 1 >= sigmas.len() {
            return Vec::new();
        }
        sigmas.drain(..self.start);
        // A step between equal sigmas changes nothing, and solvers would divide by its length.
        sigmas.dedup();
        sigmas
    }
}

/// Number of steps of the whole schedule, of which a job of this denoise strength runs the last
/// `steps`.
pub fn whole_steps(steps: usize, denoise: f64) -> usize {
    if denoise > WHOLE {
        steps
    } else {
        (steps as f64 / denoise) as usize
    }
}

/// The sigmas of `steps` steps. With a `denoise` below 1 they are the end of a longer schedule.
/// For solvers that skip the last sigma before 0 (`drop_penultimate`), the scheduler makes one
/// step more and that sigma is removed.
pub fn sigmas(
    scheduler: Scheduler,
    table: &FlowTable,
    steps: usize,
    denoise: f64,
    drop_penultimate: bool,
) -> Vec<f32> {
    let whole = whole_steps(steps, denoise);
    let mut sigmas = scheduler.sigmas(table, whole + usize::from(drop_penultimate));
    if drop_penultimate {
        sigmas.remove(sigmas.len().saturating_sub(2));
    }
    if denoise <= WHOLE {
        sigmas.drain(..sigmas.len().saturating_sub(steps + 1));
    }
    sigmas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flux(steps: usize, table: &FlowTable, denoise: f64) -> Vec<f32> {
        sigmas(Scheduler::Flux, table, steps, denoise, false)
    }

    #[test]
    fn every_schedule_descends_to_zero() {
        for scheduler in Scheduler::ALL {
            for steps in [1, 2, 3, 7, 50, 999, 1000, 2500] {
                for table in [FlowTable::constant(3.0), FlowTable::by_size(4096)] {
                    let sigmas = scheduler.sigmas(&table, steps);
                    let name = scheduler.name();
                    assert!(sigmas.len() > 1, "{name} {steps}");
                    assert_eq!(sigmas.last(), Some(&0.0), "{name} {steps}");
                    assert!(sigmas[0] <= 1.0, "{name} {steps}");
                    assert!(sigmas.windows(2).all(|w| w[0] >= w[1]), "{name} {steps}");
                }
            }
            assert_eq!(Scheduler::from_name(scheduler.name()), Some(scheduler));
        }
    }

    #[test]
    fn sigmas_are_diffusers() {
        let golden = include_str!("../../../tests/golden/sigmas.json");
        let golden: Vec<serde_json::Value> = serde_json::from_str(golden).unwrap();
        assert_eq!(golden.len(), 66);
        for entry in golden {
            let count = |field: &str| entry[field].as_u64().unwrap() as usize;
            let (steps, tokens) = (count("steps"), count("image_tokens"));
            let shift = entry["shift"].as_f64();
            let table = shift.map_or(FlowTable::by_size(tokens), FlowTable::constant);
            let ours = flux(steps, &table, 1.0);
            let theirs = entry["sigmas"].as_array().unwrap();
            assert_eq!(ours.len(), theirs.len());
            for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
                let difference = (f64::from(*a) - b.as_f64().unwrap()).abs();
                assert!(
                    difference <= 1e-6,
                    "sigma {i} of {steps} at {shift:?} and {tokens} tokens: {a} for {b}"
                );
            }
        }
    }

    #[test]
    fn partial_denoise_is_the_tail_of_a_longer_schedule() {
        let table = FlowTable::constant(3.0);
        let long = flux(20, &table, 1.0);
        assert_eq!(flux(10, &table, 0.5), long[10..]);
    }

    #[test]
    fn a_window_is_ksampler_advanceds() {
        let all = vec![1.0, 0.75, 0.5, 0.25, 0.0];
        let run = |start, end, leftover_noise| {
            let window = Window {
                start,
                end,
                leftover_noise,
            };
            window.of(all.clone())
        };
        assert_eq!(run(0, None, false), all);
        assert_eq!(run(0, Some(2), true), [1.0, 0.75, 0.5]);
        assert_eq!(run(0, Some(2), false), [1.0, 0.75, 0.0]);
        assert_eq!(run(2, Some(10_000), false), [0.5, 0.25, 0.0]);
        assert!(run(4, None, false).is_empty());
        assert!(run(3, Some(3), true).is_empty());
        assert!(run(0, Some(0), false).is_empty());
    }
}
