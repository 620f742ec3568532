//! A plan and the facts it was made from, for people and programs.

use std::fmt;

use serde::Serialize;

use super::facts::{Facts, Visits, MARGIN};
use super::plan::{shown_target, Most, Plan, Seconds};
use super::requests::Target;
use crate::pipeline::budget::shown_bytes;

/// A plan with its numbers. All sizes are in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryReport {
    /// Name of the precision.
    pub precision: String,
    /// What the process may take of the GPU's memory.
    pub budget: u64,
    /// Most that it takes.
    pub peak: u64,
    /// The driver's context, kernels and libraries.
    pub overhead: u64,
    /// What stays free beside.
    pub margin: u64,
    /// Weights that always stay on the GPU.
    pub fixed: u64,
    /// The VAE's weights, and whether they stay there.
    pub vae: u64,
    /// Whether the VAE's weights stay on the GPU.
    pub is_vae_resident: bool,
    /// A weight that is opened for one product.
    pub scratch: u64,
    /// What jobs may take.
    pub working: u64,
    /// Pages of the other weights.
    pub groups: Vec<GroupReport>,
    /// Slots for pages that stream.
    pub slots: Vec<u64>,
    /// Copied in every step.
    pub streamed_each_step: u64,
    /// Copied once an image beside.
    pub streamed_each_image: u64,
    /// Pinned host memory for pages that stream.
    pub pinned: u64,
    /// Other host memory for them.
    pub pageable: u64,
    /// Pages that are read from their files.
    pub mapped: u64,
    /// Bytes a second from pinned host memory to the GPU, measured or assumed.
    pub link: f64,
    /// How a decode is split.
    pub decode: String,
    /// What is made.
    pub target: Target,
    /// Its steps.
    pub steps: usize,
    /// Seconds of an image, estimated.
    pub seconds: Seconds,
    /// The largest jobs within the budget.
    pub most: Most,
}

/// The pages of a group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupReport {
    /// What they are.
    pub name: &'static str,
    /// Bytes of a page.
    pub page: u64,
    /// Number of pages.
    pub pages: usize,
    /// Number of those that stay on the GPU.
    pub resident: usize,
    /// Which of them those are, `#` for one that stays and `.` for one that streams.
    pub map: String,
}

impl MemoryReport {
    /// The report of a plan.
    pub fn new(facts: &Facts, plan: &Plan) -> Self {
        let groups = facts.groups.iter().zip(&plan.resident);
        let groups = groups.map(|(group, stays)| GroupReport {
            name: group.name,
            page: group.page,
            pages: group.pages,
            resident: stays.iter().filter(|stays| **stays).count(),
            map: stays
                .iter()
                .map(|&stays| if stays { '#' } else { '.' })
                .collect(),
        });
        let vae = if plan.vae_resident { 0 } else { facts.vae };
        let once = [Visits::OncePerPortion, Visits::OncePerPrompt];
        let once = once.map(|visits| plan.streamed(facts, visits) * facts.visits(visits) as u64);
        Self {
            precision: facts.precision.clone(),
            budget: facts.budget,
            peak: plan.peak,
            overhead: facts.overhead,
            margin: MARGIN,
            fixed: facts.fixed,
            vae: facts.vae,
            is_vae_resident: plan.vae_resident,
            scratch: facts.scratch,
            working: plan.working,
            groups: groups.collect(),
            slots: plan.slots.clone(),
            streamed_each_step: plan.streamed(facts, Visits::EveryStep),
            streamed_each_image: once.iter().sum::<u64>() + vae,
            pinned: plan.pinned,
            pageable: plan.pageable,
            mapped: plan.mapped,
            link: facts.link,
            decode: plan.decode.clone(),
            target: facts.target,
            steps: facts.steps,
            seconds: plan.seconds,
            most: plan.most,
        }
    }

    /// Whether all weights stay on the GPU.
    pub fn is_resident(&self) -> bool {
        self.streamed_each_step == 0 && self.streamed_each_image == 0
    }

    /// Bytes of the GPU's memory that the weights and their slots take.
    pub fn weight_bytes(&self) -> u64 {
        self.peak - self.overhead - self.margin - self.working
    }

    /// The plan in a clause: `streams 1.5 GiB in each step, 1.04 times the time`.
    pub fn summary(&self) -> String {
        let ratio = format!("{:.2} times the time", self.seconds.ratio);
        match (self.streamed_each_step, self.streamed_each_image) {
            (0, 0) => "all weights stay on the GPU".into(),
            (0, image) => format!("streams {} once an image, {ratio}", shown_bytes(image)),
            (step, 0) => format!("streams {} in each step, {ratio}", shown_bytes(step)),
            (step, image) => format!(
                "streams {} in each step and {} once an image, {ratio}",
                shown_bytes(step),
                shown_bytes(image)
            ),
        }
    }
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, bytes: u64, name: &str| match bytes {
            0 => Ok(()),
            bytes => writeln!(f, "{:>12}  {name}", shown_bytes(bytes)),
        };
        writeln!(
            f,
            "{} within {} of GPU memory, for {} in {} steps: {}",
            self.precision,
            shown_bytes(self.budget),
            shown_target(self.target),
            self.steps,
            self.summary()
        )?;
        line(
            f,
            self.overhead + self.margin,
            "driver, libraries and margin",
        )?;
        line(f, self.fixed, "weights outside pages")?;
        if self.is_vae_resident {
            line(f, self.vae, "VAE")?;
        }
        line(f, self.scratch, "the largest weight, opened for a product")?;
        for group in &self.groups {
            let bytes = group.page * group.resident as u64;
            writeln!(
                f,
                "{:>12}  {}: {} of {} stay  {}",
                shown_bytes(bytes),
                group.name,
                group.resident,
                group.pages,
                group.map
            )?;
        }
        let slots = format!("{} slots for pages that stream", self.slots.len());
        line(f, self.slots.iter().sum(), &slots)?;
        line(
            f,
            self.working,
            &format!("jobs; a decode runs {}", self.decode),
        )?;
        writeln!(f, "{:>12}  at the peak", shown_bytes(self.peak))?;
        if !self.is_vae_resident && self.vae > 0 {
            line(f, self.vae, "VAE, loaded for each decode")?;
        }
        line(f, self.pinned, "pinned host memory")?;
        line(f, self.pageable, "other host memory")?;
        line(f, self.mapped, "read from files when used")?;
        let Seconds {
            step,
            stall,
            once,
            image,
            ..
        } = self.seconds;
        writeln!(
            f,
            "a step of {step:.3} s waits {stall:.3} s for copies, an image of {image:.2} s {once:.3} s \
             more, at {:.0} GB/s",
            self.link / 1e9
        )?;
        writeln!(
            f,
            "largest: one image of {0} x {0}, or {1} of this size together",
            self.most.side, self.most.batch
        )
    }
}
