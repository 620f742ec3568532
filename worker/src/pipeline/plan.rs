//! The checks of a denoise request that need no model, and the solver and sigmas that follow.

use ovis_protocol::limits::MAX_PREVIEW_SIDE;
use ovis_protocol::{DenoiseRequest, Schedule, SigmaInterval};

use super::error::{Error, Result};
use super::types::SIZE_MULTIPLE;
use crate::sampling::{sigmas, whole_steps, FlowTable, Refusal, Sampler, Scheduler, Window};

/// Most steps of a job.
const MAX_STEPS: u32 = 1000;

/// Most steps of the whole schedule, of which a job with a denoise below 1 runs the end.
const MAX_WHOLE_STEPS: usize = 10_000;

/// Largest ratio of the longer side to the shorter.
const MAX_ASPECT: usize = 4;

/// Number of noise draws that a `batch_index` can choose from.
const MAX_DRAWS: u64 = 4096;

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::invalid(refusal.message, refusal.hint)
    }
}

/// The solver and the sigmas of a job.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The solver.
    pub sampler: Sampler,
    /// The sigmas it goes through; empty if the requested part of the schedule has no step.
    pub sigmas: Vec<f32>,
    /// All sigmas of the model.
    pub table: FlowTable,
}

/// Checks everything in a request that does not depend on the model, for `batch` images of a
/// width and height in pixels.
///
/// # Errors
/// [`Error::Invalid`] names the value that is out of range.
pub fn check_request(
    request: &DenoiseRequest,
    batch: usize,
    (width, height): (usize, usize),
) -> Result<Plan> {
    check_size(width, height)?;
    check_values(request, batch)?;
    plan(request, (width / SIZE_MULTIPLE) * (height / SIZE_MULTIPLE))
}

fn check_size(width: usize, height: usize) -> Result<()> {
    let fits = |side: usize| side > 0 && side.is_multiple_of(SIZE_MULTIPLE);
    if !fits(width) || !fits(height) {
        return Err(Error::invalid(
            format!("a size of {width} x {height} pixels is not a multiple of {SIZE_MULTIPLE} both ways"),
            format!("Round width and height to multiples of {SIZE_MULTIPLE}."),
        ));
    }
    if height > MAX_ASPECT * width || width > MAX_ASPECT * height {
        return Err(Error::invalid(
            format!("a size of {width} x {height} pixels is longer than 4 to 1"),
            "Choose an aspect ratio from 1:4 to 4:1.",
        ));
    }
    Ok(())
}

fn check_values(request: &DenoiseRequest, batch: usize) -> Result<()> {
    if !request.cfg.is_finite() || !(0.0..=100.0).contains(&request.cfg) {
        return Err(Error::invalid(
            format!("cfg is {}, outside 0 to 100", request.cfg),
            "5 is the model's own; 1 switches guidance off.",
        ));
    }
    if let Some(preview) = request.preview {
        if !(1..=MAX_PREVIEW_SIDE).contains(&preview.max_side) {
            return Err(Error::invalid(
                format!(
                    "a preview of {} pixels is outside 1 to {MAX_PREVIEW_SIDE}",
                    preview.max_side
                ),
                "Leave the preview out where none is wanted.",
            ));
        }
    }
    if let Some(SigmaInterval { start, end }) = request.guided {
        if !(0.0 <= end && end <= start && start <= 1.0) {
            return Err(Error::invalid(
                format!("guidance from sigma {start} to {end} is not a part of 1 to 0"),
                "Give the larger sigma first: 1, 0 guides every step.",
            ));
        }
    }
    match &request.batch_index {
        Some(index) if index.len() != batch => Err(Error::invalid(
            format!(
                "batch_index has {} entries for a batch of {batch}",
                index.len()
            ),
            "It names one noise draw for each batch entry.",
        )),
        Some(index) if index.iter().any(|&i| i >= MAX_DRAWS) => Err(Error::invalid(
            format!("batch_index names a noise draw past {}", MAX_DRAWS - 1),
            "Draws are numbered from 0.",
        )),
        _ => Ok(()),
    }
}

fn plan(request: &DenoiseRequest, image_tokens: usize) -> Result<Plan> {
    if request.steps == 0 || request.steps > MAX_STEPS {
        return Err(Error::invalid(
            format!("steps is {}, outside 1 to {MAX_STEPS}", request.steps),
            "50 is the model's own; 20 is a good preview.",
        ));
    }
    if !(request.denoise > 0.0 && request.denoise <= 1.0) {
        return Err(Error::invalid(
            format!("denoise is {}, outside 0 to 1", request.denoise),
            "1 makes a new image; less keeps more of the one given.",
        ));
    }
    let steps = request.steps as usize;
    let whole = whole_steps(steps, request.denoise);
    if whole > MAX_WHOLE_STEPS {
        return Err(Error::invalid(
            format!(
                "{steps} steps at denoise {} are the end of {whole} steps, the most is {MAX_WHOLE_STEPS}",
                request.denoise
            ),
            "Use fewer steps or more denoise.",
        ));
    }
    let shift = match request.schedule {
        Schedule::Shift(shift) => Some(shift),
        _ => request.shift,
    };
    let table = match shift {
        None => FlowTable::by_size(image_tokens),
        Some(shift) if shift > 0.0 && shift.is_finite() => FlowTable::constant(shift),
        Some(shift) => {
            return Err(Error::invalid(
                format!("shift is {shift}, but it must be above 0"),
                "3 is ComfyUI's; leave it out for the model's own.",
            ))
        }
    };
    let sampler = Sampler::new(&request.sampler, &request.options)?;
    let scheduled = |scheduler| {
        let drops = sampler.drops_penultimate();
        sigmas(scheduler, &table, steps, request.denoise, drops)
    };
    let all = match &request.schedule {
        Schedule::Auto | Schedule::Shift(_) => scheduled(Scheduler::Flux),
        Schedule::Named(name) => scheduled(named(name)?),
        Schedule::Sigmas(given) => checked(given, steps, request.denoise)?,
    };
    let window = Window {
        start: request.start_step as usize,
        end: request.end_step.map(|end| end as usize),
        leftover_noise: request.leftover_noise,
    };
    Ok(Plan {
        sampler,
        sigmas: window.of(all),
        table,
    })
}

/// The scheduler of this name.
fn named(name: &str) -> Result<Scheduler> {
    Scheduler::from_name(name).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        let names = Scheduler::ALL.map(Scheduler::name);
        Error::invalid(
            format!("there is no scheduler called `{shown}`"),
            format!("Choose one of: {}.", names.join(", ")),
        )
    })
}

/// The sigmas of a request, which are used as they are.
fn checked(given: &[f32], steps: usize, denoise: f64) -> Result<Vec<f32>> {
    let descending = given.windows(2).all(|w| w[0] > w[1]);
    let inside = given.iter().all(|s| (0.0..=1.0).contains(s));
    if given.len() != steps + 1 || !descending || !inside || denoise != 1.0 {
        return Err(Error::invalid(
            "the given sigmas are not one more than the steps, descending within 1 to 0, with denoise 1",
            "Make them with a scheduler for a flow model, such as BasicScheduler.",
        ));
    }
    Ok(given.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (1024, 512);

    fn refused(change: impl Fn(&mut DenoiseRequest)) -> String {
        let mut request = DenoiseRequest::new(0, 4, 5.0);
        change(&mut request);
        match check_request(&request, 2, SIZE) {
            Err(Error::Invalid { message, hint }) => {
                assert!(!hint.is_empty(), "{message}");
                message
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plan_has_the_requested_part_of_the_schedule() {
        let mut request = DenoiseRequest::new(0, 4, 5.0);
        let whole = check_request(&request, 1, SIZE).unwrap();
        assert_eq!(whole.sampler, Sampler::Euler);
        assert_eq!(whole.table, FlowTable::by_size(64 * 32));
        assert_eq!(whole.sigmas.len(), 5);
        (request.start_step, request.end_step) = (1, Some(3));
        request.leftover_noise = true;
        let part = check_request(&request, 1, SIZE).unwrap();
        assert_eq!(part.sigmas, whole.sigmas[1..4]);
        request.start_step = 4;
        assert!(check_request(&request, 1, SIZE).unwrap().sigmas.is_empty());
        request.shift = Some(3.0);
        let shifted = check_request(&request, 1, SIZE).unwrap();
        assert_eq!(shifted.table, FlowTable::constant(3.0));
    }

    #[test]
    fn sizes_that_the_model_cannot_make_are_refused() {
        let request = DenoiseRequest::new(0, 4, 5.0);
        for size in [(0, 16), (16, 24), (72, 64), (16, 80), (1024, 128)] {
            assert!(check_request(&request, 1, size).is_err(), "{size:?}");
        }
        assert!(check_request(&request, 1, (1024, 256)).is_ok());
    }

    #[test]
    fn values_out_of_range_are_refused() {
        assert!(refused(|r| r.steps = 0).starts_with("steps is 0"));
        assert!(refused(|r| r.steps = MAX_STEPS + 1).starts_with("steps is 1001"));
        assert!(refused(|r| r.cfg = f64::NAN).starts_with("cfg is NaN"));
        assert!(refused(|r| r.denoise = 0.0).starts_with("denoise is 0"));
        assert!(refused(|r| (r.steps, r.denoise) = (1000, 0.01)).contains("the most is 10000"));
        assert!(refused(|r| r.shift = Some(-1.0)).starts_with("shift is -1"));
        assert!(refused(|r| r.sampler = "magic".into()).contains("`magic`"));
        assert!(refused(|r| r.schedule = Schedule::Named("magic".into())).contains("`magic`"));
        assert!(refused(|r| r.batch_index = Some(vec![0])).contains("1 entries"));
        assert!(refused(|r| r.batch_index = Some(vec![0, MAX_DRAWS])).contains("past 4095"));
        let rising = Schedule::Sigmas(vec![0.0, 0.2, 0.4, 0.6, 0.8]);
        assert!(refused(|r| r.schedule = rising.clone()).contains("descending"));
    }
}
