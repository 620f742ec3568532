//! The plan for a budget, or why there is none.

use std::fmt;

use serde::Serialize;

use super::choose::{choose, least, swapped, Choice};
use super::facts::{Facts, Visits};
use super::requests::Target;
use crate::nn::Residence;
use crate::pipeline::budget::shown_bytes;
use crate::pipeline::types::SIZE_MULTIPLE;

/// Largest side of an image in pixels that is looked for.
const LARGEST_SIDE: usize = 16_384;

/// Largest batch that is looked for.
const LARGEST_BATCH: usize = 1024;

/// Unit of the budgets that are proposed.
const BUDGET_UNIT: u64 = 1 << 27;

/// How a model is run within a budget of GPU memory.
#[derive(Clone, Debug)]
pub struct Plan {
    /// By group, in the order of [`Facts::groups`], which of its pages stay on the GPU.
    pub resident: Vec<Vec<bool>>,
    /// Bytes of each slot for pages that stream; empty if none does.
    pub slots: Vec<u64>,
    /// Bytes that jobs may take beside the weights.
    pub working: u64,
    /// How a decode is split, in words.
    pub decode: String,
    /// Bytes of pinned host memory for pages that stream.
    pub pinned: u64,
    /// Bytes of other host memory for them.
    pub pageable: u64,
    /// Bytes of pages that are read from their files when they are used.
    pub mapped: u64,
    /// Whether the VAE's weights stay on the GPU; otherwise they are loaded for each decode.
    pub vae_resident: bool,
    /// Most bytes that the process takes, as the driver counts it.
    pub peak: u64,
    /// What the target takes.
    pub seconds: Seconds,
    /// The largest jobs for which there is a plan within the budget.
    pub most: Most,
}

/// Seconds of an image, estimated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Seconds {
    /// A step with all weights resident.
    pub step: f64,
    /// By how much copies make it longer.
    pub stall: f64,
    /// Copies that are made once an image.
    pub once: f64,
    /// All steps and all copies.
    pub image: f64,
    /// The image relative to one with all weights resident.
    pub ratio: f64,
}

/// The largest jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Most {
    /// Side in pixels of the largest square image.
    pub side: usize,
    /// Most images of the target's size that are made together.
    pub batch: usize,
}

/// A change with which there is a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nearest {
    /// Another precision.
    Precision(String),
    /// A smaller image or batch.
    Target(Target),
    /// A larger budget, in bytes.
    Budget(u64),
}

/// Why there is no plan: the numbers, and what there is a plan for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Impossible {
    /// Name of the precision.
    pub precision: String,
    /// What was to be made.
    pub target: Target,
    /// Bytes of GPU memory that it takes at least.
    pub needed: u64,
    /// Bytes of the budget.
    pub budget: u64,
    /// Bytes of free host memory, if those are too few for the pages that must stream.
    pub host: Option<u64>,
    /// What there is a plan for.
    pub nearest: Vec<Nearest>,
}

/// Plans for a budget.
///
/// # Errors
/// [`Impossible`] with what it takes, and the smaller images and the budget that work.
pub fn plan(facts: &Facts) -> Result<Plan, Impossible> {
    let working = facts.requests.working(facts.target);
    let Some(choice) = choose(facts, &working) else {
        return Err(impossible(facts, least(facts, &working)));
    };
    let swapped = swapped(facts, choice.vae_resident);
    let there = facts.budget - choice.weights;
    let splits = working.decodes.iter();
    let decode = splits
        .clone()
        .find(|(_, bytes)| bytes + swapped <= there)
        .or_else(|| splits.min_by_key(|(_, bytes)| *bytes));
    let decode_bytes = decode.map_or(0, |(_, bytes)| bytes + swapped);
    let jobs = working.least(swapped).max(decode_bytes);
    Ok(Plan {
        decode: decode.map_or_else(|| "no VAE".into(), |(name, _)| name.clone()),
        working: jobs,
        peak: choice.weights + jobs,
        seconds: seconds(facts, &choice),
        most: most(facts),
        pinned: choice.homes.pinned,
        pageable: choice.homes.pageable,
        mapped: choice.homes.mapped,
        vae_resident: choice.vae_resident,
        slots: choice.slots,
        resident: choice.resident,
    })
}

impl Plan {
    /// What stays on the GPU, for the loader.
    pub fn residence(&self) -> Residence {
        Residence {
            resident: self.resident.clone(),
            vae_resident: self.vae_resident,
            pinned: self.pinned,
        }
    }

    /// Whether all weights stay on the GPU.
    pub fn is_resident(&self) -> bool {
        self.vae_resident && self.resident.iter().flatten().all(|stays| *stays)
    }

    /// Bytes of pages that are copied with each visit of this kind.
    pub fn streamed(&self, facts: &Facts, visits: Visits) -> u64 {
        let groups = facts.groups.iter().zip(&self.resident);
        let of_kind = groups.filter(|(group, _)| group.visits == visits);
        of_kind
            .map(|(group, stays)| group.page * stays.iter().filter(|stays| !**stays).count() as u64)
            .sum()
    }
}

fn seconds(facts: &Facts, choice: &Choice) -> Seconds {
    let steps = facts.steps as f64;
    let alone = steps * facts.step;
    let image = alone + steps * choice.stall + choice.once;
    Seconds {
        step: facts.step,
        stall: choice.stall,
        once: choice.once,
        image,
        ratio: if alone > 0.0 { image / alone } else { 1.0 },
    }
}

/// Whether there is a plan for a target.
fn fits(facts: &Facts, target: Target) -> bool {
    target.can_be_sent() && least(facts, &facts.requests.working(target)) <= facts.budget
}

fn most(facts: &Facts) -> Most {
    let target = facts.target;
    let square = |parts| Target {
        width: parts * SIZE_MULTIPLE,
        height: parts * SIZE_MULTIPLE,
        batch: 1,
        ..target
    };
    let parts = largest(LARGEST_SIDE / SIZE_MULTIPLE, |parts| {
        fits(facts, square(parts))
    });
    Most {
        side: parts * SIZE_MULTIPLE,
        batch: largest(LARGEST_BATCH, |batch| {
            fits(facts, Target { batch, ..target })
        }),
    }
}

/// The largest number up to `end` for which `fits` holds, 0 if it holds for none: if it holds for a
/// number, it must hold for all smaller ones.
fn largest(end: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, end + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match fits(middle) {
            true => low = middle,
            false => high = middle,
        }
    }
    low
}

fn impossible(facts: &Facts, needed: u64) -> Impossible {
    let target = facts.target;
    // What fits the GPU has no room on the host.
    let is_host = needed <= facts.budget;
    let batch = |batch| Target { batch, ..target };
    let of_size = |parts: usize| {
        let of = target.width.min(target.height) / SIZE_MULTIPLE;
        let side = |pixels: usize| {
            let multiples = pixels * parts / of.max(1) / SIZE_MULTIPLE;
            multiples.max(1) * SIZE_MULTIPLE
        };
        Target {
            width: side(target.width),
            height: side(target.height),
            batch: 1,
            ..target
        }
    };
    let mut nearest = Vec::new();
    let images = largest(target.batch - 1, |images| fits(facts, batch(images)));
    let parts = target.width.min(target.height) / SIZE_MULTIPLE;
    if images > 0 {
        nearest.push(Nearest::Target(batch(images)));
    } else if !is_host {
        let smaller = largest(parts.saturating_sub(1), |parts| fits(facts, of_size(parts)));
        nearest.extend((smaller > 0).then(|| Nearest::Target(of_size(smaller))));
    }
    if !is_host {
        nearest.push(Nearest::Budget(needed.next_multiple_of(BUDGET_UNIT)));
    }
    Impossible {
        precision: facts.precision.clone(),
        target,
        needed,
        budget: facts.budget,
        host: is_host.then_some(facts.host.free.unwrap_or(0)),
        nearest,
    }
}

impl Impossible {
    /// Names the precisions among `others` with which there is a plan.
    pub fn with_precisions(mut self, others: impl IntoIterator<Item = Facts>) -> Self {
        let works = others.into_iter().filter(|facts| plan(facts).is_ok());
        let named = works.map(|facts| Nearest::Precision(facts.precision));
        self.nearest.splice(0..0, named);
        self
    }

    /// What to do, as sentences; empty if nothing would help.
    pub fn hint(&self) -> String {
        let ways: Vec<String> = self
            .nearest
            .iter()
            .map(|way| match way {
                Nearest::Precision(name) => format!("--precision {name}"),
                Nearest::Target(target) => shown_target(*target),
                Nearest::Budget(bytes) => format!("--vram {}", shown_budget(*bytes)),
            })
            .collect();
        match ways.split_last() {
            None => "Use a GPU with more memory.".into(),
            Some((only, [])) => format!("{only} would fit."),
            Some((last, others)) => format!("{} or {last} would fit.", others.join(", ")),
        }
    }
}

/// A budget as `--vram` takes it.
fn shown_budget(bytes: u64) -> String {
    format!("{}GiB", (bytes as f64 / f64::from(1 << 27)).ceil() / 8.0)
}

/// `2 images of 1024 x 512`.
pub fn shown_target(target: Target) -> String {
    let images = match target.batch {
        1 => "an image".into(),
        batch => format!("{batch} images"),
    };
    format!("{images} of {} x {}", target.width, target.height)
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, precision) = (shown_target(self.target), &self.precision);
        match self.host {
            None => write!(
                f,
                "{target} in {precision} takes {} of GPU memory, and the budget is {}",
                shown_bytes(self.needed),
                shown_bytes(self.budget)
            ),
            Some(free) => write!(
                f,
                "{target} in {precision} within {} of GPU memory takes more memory on the host \
                 than the {} that is free",
                shown_bytes(self.budget),
                shown_bytes(free)
            ),
        }
    }
}
