//! `inspect --plan`: what a budget of GPU memory means for a model, without loading it and without
//! a GPU.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{json, Value};

use super::error::CliError;
use super::planning::{Assumed, Planner, CARDS};
use super::precision::Precision;
use super::terminal;
use super::values::{parsed, speed};
use crate::checkpoint::Checkpoint;
use crate::pipeline::{parse_bytes, shown_bytes, MemoryReport, Sizes, Target, SIZE_MULTIPLE};

/// Largest side of an image in pixels.
const MAX_SIDE: usize = 16_384;

/// What to plan for.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// Print what stays on a GPU within a budget of its memory, what streams, and what that costs.
    #[arg(long)]
    plan: bool,
    /// The budget, such as 12GiB. Without it, cards of 24, 16, 12, 8 and 6 GiB.
    #[arg(long, value_name = "SIZE", requires = "plan", value_parser = parsed(parse_bytes))]
    vram: Option<u64>,
    /// The precision to load the model in. Without it, the usual ones.
    #[arg(long, value_enum, ignore_case = true, requires = "plan")]
    precision: Option<Precision>,
    /// Width and height of the image. The default is the model's native size.
    #[arg(long, value_name = "WxH", requires = "plan", value_parser = parsed(size))]
    size: Option<(usize, usize)>,
    /// Bytes a second from host memory to the GPU. The default is 25G, 16 lanes of PCIe 4.0.
    #[arg(long, value_name = "SPEED", requires = "plan", value_parser = parsed(speed))]
    link: Option<f64>,
    /// Operations a second of the GPU in bf16. The default is 100T.
    #[arg(long, value_name = "SPEED", requires = "plan", value_parser = parsed(speed))]
    speed: Option<f64>,
}

/// A text that is not a size of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a width and a height in pixels, such as 1024x768, multiples of 16 up to 16384")]
struct NotSize;

/// Parses `1024x768`.
fn size(text: &str) -> Result<(usize, usize), NotSize> {
    let (width, height) = text.split_once(['x', 'X']).ok_or(NotSize)?;
    let side = |text: &str| {
        let pixels = text.trim().parse::<usize>().map_err(|_| NotSize)?;
        let fits = pixels.is_multiple_of(SIZE_MULTIPLE) && (1..=MAX_SIDE).contains(&pixels);
        fits.then_some(pixels).ok_or(NotSize)
    };
    Ok((side(width)?, side(height)?))
}

impl PlanArgs {
    /// Whether plans are asked for.
    pub fn is_given(&self) -> bool {
        self.plan
    }

    /// Prints the plans of a checkpoint.
    ///
    /// # Errors
    /// The checkpoint has no transformer, or there is no plan for the one budget and precision that
    /// are given.
    pub fn print(&self, checkpoint: &Checkpoint, as_json: bool) -> Result<(), CliError> {
        if checkpoint.transformer.is_none() {
            return Err(CliError::new(
                "there is no transformer to plan for",
                "Name it with --transformer.",
            ));
        }
        let native = checkpoint.native_size();
        let (width, height) = self.size.unwrap_or((native, native));
        let usual = Assumed::USUAL;
        let assumed = Assumed {
            link: self.link.unwrap_or(usual.link),
            speed: self.speed.unwrap_or(usual.speed),
        };
        let sizes = Sizes::of(checkpoint);
        let planner = Planner::of_card(sizes, Target::image(width, height), assumed);
        let budgets = match self.vram {
            Some(budget) => vec![budget],
            None => CARDS.iter().map(|gib| gib << 30).collect(),
        };
        let precisions = match self.precision {
            Some(precision) => vec![precision],
            None => planner.precisions(),
        };
        if let (false, [budget], [precision]) = (as_json, &budgets[..], &precisions[..]) {
            let report = planner.plan(*precision, *budget)?;
            return terminal::print(&format!(
                "{}\n{report}",
                Self::heading(checkpoint, &planner)
            ));
        }
        let rows = budgets.iter().flat_map(|budget| {
            precisions.iter().map(|precision| Row {
                budget: *budget,
                precision: *precision,
                plan: planner.plan(*precision, *budget).map_err(CliError::from),
            })
        });
        let rows: Vec<Row> = rows.collect();
        match as_json {
            true => {
                let plans: Vec<Value> = rows.iter().map(Row::json).collect();
                let report = json!({
                    "name": checkpoint.name,
                    "target": planner.target(),
                    "link": assumed.link,
                    "speed": assumed.speed,
                    "plans": plans,
                });
                terminal::print(&format!("{report:#}"))
            }
            false => {
                let mut text = Self::heading(checkpoint, &planner);
                for row in &rows {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\n{}", row.text());
                }
                terminal::print(&text)
            }
        }
    }

    /// What the plans are for, and what is assumed.
    fn heading(checkpoint: &Checkpoint, planner: &Planner) -> String {
        let (target, assumed) = (planner.target(), planner.assumed());
        let mut text = format!(
            "{}, images of {} x {}\nassumed: {} GB/s from host memory to the GPU (--link), {} TFLOP/s \
             in bf16 (--speed)\n",
            checkpoint.name,
            target.width,
            target.height,
            assumed.link / 1e9,
            assumed.speed / 1e12
        );
        let missing = checkpoint.missing();
        if !missing.is_empty() {
            let _ = writeln!(
                text,
                "not counted, because it is missing: {}",
                missing.join(", ")
            );
        }
        text
    }
}

/// A plan of several.
struct Row {
    budget: u64,
    precision: Precision,
    plan: Result<MemoryReport, CliError>,
}

impl Row {
    fn text(&self) -> String {
        let (budget, name) = (shown_bytes(self.budget), self.precision.name());
        match &self.plan {
            Ok(report) => format!("{budget:>9}  {name:6}  {}", report.summary()),
            Err(why) => format!(
                "{budget:>9}  {name:6}  impossible: {}. {}",
                why.message, why.hint
            ),
        }
    }

    fn json(&self) -> Value {
        json!({
            "budget": self.budget,
            "precision": self.precision.name(),
            "plan": self.plan.as_ref().ok(),
            "refusal": self.plan.as_ref().err().map(|why| json!({
                "message": why.message,
                "hint": why.hint,
            })),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("1024x768"), Ok((1024, 768)));
        for text in ["1024", "1024x100", "0x16", "16x99999", "ax16"] {
            assert_eq!(size(text), Err(NotSize), "{text}");
        }
    }
}
