//! What budgets of GPU memory mean for the model.

use super::finding::{Finding, Report};
use crate::cli::error::CliError;
use crate::cli::planning::{free_budget, Assumed, Planner, CARDS};
use crate::cli::precision::Precision;
use crate::nn::Placement;
use crate::pipeline::{shown_bytes, Sizes, Target};

/// The plan of the budget that `serve` would be given; the plans of each precision within what is free
/// of this machine's GPU; and those of usual cards.
pub fn plans(
    sizes: &Sizes,
    native: usize,
    placement: Option<&Placement>,
    vram: Option<u64>,
    report: &mut Report,
) {
    let target = Target::image(native, native);
    match (placement, vram) {
        (Some(placement), Some(_)) if placement.device.is_cpu() => report.add(Finding::note(
            "budget",
            "--vram is a budget of GPU memory and has no effect on a CPU",
            "",
        )),
        (Some(placement), Some(budget)) => {
            let planner = Planner::of_gpu(sizes.clone(), target, &placement.device);
            report.add(match planner.plan(Precision::of(placement), budget) {
                Ok(made) => Finding::good("budget", made.summary()),
                Err(why) => Finding::fault("budget", why.into()),
            });
        }
        _ => {}
    }
    let gpu = placement.map(|placement| &placement.device);
    if let Some(gpu) = gpu.filter(|device| !device.is_cpu()) {
        let planner = Planner::of_gpu(sizes.clone(), target, gpu);
        if let Some(free) = vram.or_else(|| free_budget(gpu)) {
            let whose = format!("this GPU, {}", shown_bytes(free));
            row(&planner, &whose, free, report);
        }
    }
    let planner = Planner::of_card(sizes.clone(), target, Assumed::USUAL);
    for gib in CARDS {
        row(&planner, &format!("a card of {gib} GiB"), gib << 30, report);
    }
}

/// A finding with the plans of all precisions within a budget.
fn row(planner: &Planner, whose: &str, budget: u64, report: &mut Report) {
    let (mut plans, mut hint, mut is_possible) = (Vec::new(), String::new(), false);
    for precision in planner.precisions() {
        let name = precision.name();
        match planner.plan(precision, budget) {
            Ok(made) => {
                is_possible = true;
                plans.push(format!("{name}: {}", made.summary()));
            }
            Err(why) => {
                let needed = shown_bytes(why.needed);
                plans.push(format!("{name}: impossible, it takes {needed}"));
                hint = CliError::from(why).hint;
            }
        }
    }
    let text = format!("{whose}; {}", plans.join("; "));
    report.add(match is_possible {
        true => Finding::good("plan", text),
        false => Finding::note("plan", text, hint),
    });
}
