//! The figures, for people and for scripts.

use std::fmt;

use serde_json::{json, Value};

use super::ceilings::{Ceilings, Work};
use super::parts::Part;
use crate::cli::shortcut_args::ShortcutArgs;
use crate::pipeline::Forwards;

/// Seconds of each stage, one for each time it ran.
#[derive(Clone, Debug, Default)]
pub struct Times {
    pub encode: Vec<f64>,
    pub step: Vec<f64>,
    pub decode: Vec<f64>,
    /// What of an image passes while none of its jobs has the device's thread: tensors and
    /// messages on their way.
    pub transport: Vec<f64>,
    /// All of an image but its encodes, steps and decode: the transport, and what the jobs
    /// do besides.
    pub overhead: Vec<f64>,
    /// From prompts to pixels, as a client on the same machine has it.
    pub image: Vec<f64>,
    /// The very first image, warm-up or not.
    pub first_image: f64,
    /// Of one image; the same of all.
    pub forwards: Forwards,
}

impl Times {
    /// Takes the times of another image.
    pub fn append(&mut self, other: &mut Self) {
        self.encode.append(&mut other.encode);
        self.step.append(&mut other.step);
        self.decode.append(&mut other.decode);
        self.transport.append(&mut other.transport);
        self.overhead.append(&mut other.overhead);
        self.image.append(&mut other.image);
        self.forwards = other.forwards;
    }

    fn stages(&self) -> [(&'static str, Spread); 6] {
        [
            ("encode", Spread::of(&self.encode)),
            ("step", Spread::of(&self.step)),
            ("decode", Spread::of(&self.decode)),
            ("transport", Spread::of(&self.transport)),
            ("overhead", Spread::of(&self.overhead)),
            ("image", Spread::of(&self.image)),
        ]
    }
}

/// Median, mean and extremes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    /// What counts where some are short, as steps that a cache answers are.
    mean: f64,
    least: f64,
    most: f64,
    count: usize,
}

impl Spread {
    /// Of at least one value.
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        };
        Self {
            median,
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            least: sorted[0],
            most: sorted[sorted.len() - 1],
            count: sorted.len(),
        }
    }
}

/// All that was measured.
pub struct Report {
    pub model: String,
    pub device: String,
    pub precision: &'static str,
    /// What the model computes with.
    pub paths: String,
    pub size: (usize, usize),
    pub steps: u32,
    pub cfg: f64,
    pub shortcuts: ShortcutArgs,
    pub load_seconds: f64,
    /// What `serve` does before it is ready.
    pub warm_up_seconds: f64,
    pub peak_bytes: u64,
    /// Of one forward that is done whole.
    pub forward: Work,
    /// Of one that the step cache answers.
    pub answered_forward: Work,
    pub ceilings: Ceilings,
    /// Of one forward; empty if not asked for.
    pub parts: Vec<Part>,
    pub times: Times,
}

impl Report {
    /// Seconds that a step takes on average.
    fn step(&self) -> f64 {
        Spread::of(&self.times.step).mean
    }

    /// What is really done in a step on average, without what the cache spared.
    fn work(&self) -> Work {
        let Forwards { asked, answered } = self.times.forwards;
        let a_step = |forwards: u64| forwards as f64 / f64::from(self.steps);
        a_step(asked - answered) * self.forward + a_step(answered) * self.answered_forward
    }

    /// Operations a second during the steps.
    fn achieved(&self) -> f64 {
        let work = self.work();
        (work.gemm + work.attention) / self.step()
    }

    /// Seconds a step would take on average if all of it ran at the ceilings.
    fn floor(&self) -> f64 {
        self.ceilings.seconds(&self.work())
    }

    /// For scripts; seconds, bytes, operations a second.
    pub fn json(&self) -> Value {
        let stages = self.times.stages().map(|(name, spread)| {
            let value = json!({
                "median": spread.median, "mean": spread.mean, "least": spread.least, "most": spread.most,
                "count": spread.count,
            });
            (name.to_owned(), value)
        });
        json!({
            "model": self.model,
            "device": self.device,
            "precision": self.precision,
            "paths": self.paths,
            "width": self.size.0,
            "height": self.size.1,
            "steps": self.steps,
            "cfg": self.cfg,
            "cache": self.shortcuts.cache.name(),
            "guidance_interval": self.shortcuts.guidance_interval.map(|at| [at.start, at.end]),
            "forwards": {
                "asked": self.times.forwards.asked,
                "answered": self.times.forwards.answered,
            },
            "load_seconds": self.load_seconds,
            "warm_up_seconds": self.warm_up_seconds,
            "first_image_seconds": self.times.first_image,
            "peak_bytes": self.peak_bytes,
            "stages": Value::Object(stages.into_iter().collect()),
            "step_floor_seconds": self.floor(),
            "achieved": self.achieved(),
            "ceilings": {"gemm": self.ceilings.gemm, "attention": self.ceilings.attention},
            "forward": self.forward.json(),
            "answered_forward": self.answered_forward.json(),
            "parts": self.parts.iter().map(Part::json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} on {} as {}, {} x {}, {} steps, cfg {}{}",
            self.model,
            self.device,
            self.precision,
            self.size.0,
            self.size.1,
            self.steps,
            self.cfg,
            self.shortcuts
        )?;
        writeln!(f, "{}", self.paths)?;
        writeln!(f, "\n            median       mean      least       most")?;
        for (name, spread) in self.times.stages() {
            writeln!(
                f,
                "{name:9} {:8.4} s {:8.4} s {:8.4} s {:8.4} s   of {}",
                spread.median, spread.mean, spread.least, spread.most, spread.count
            )?;
        }
        writeln!(
            f,
            "transport is what an image takes while none of its jobs has the device, overhead \
             all of it but encodes, steps and decode"
        )?;
        writeln!(f, "\nload         {:.2} s", self.load_seconds)?;
        writeln!(f, "warm-up      {:.2} s", self.warm_up_seconds)?;
        writeln!(f, "first image  {:.3} s", self.times.first_image)?;
        writeln!(
            f,
            "most memory  {:.2} GiB",
            self.peak_bytes as f64 / (1u64 << 30) as f64
        )?;
        let Forwards { asked, answered } = self.times.forwards;
        writeln!(
            f,
            "forwards     {asked} an image, of which the step cache answered {answered}"
        )?;
        writeln!(
            f,
            "a step       {} of work really done; at the speed of this machine's matrix product ({}) and attention \
             ({}) it would take {:.4} s, {:.0} % of what it takes",
            speed(self.achieved()),
            speed(self.ceilings.gemm),
            speed(self.ceilings.attention),
            self.floor(),
            100.0 * self.floor() / self.step()
        )?;
        if self.parts.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nparts of a forward, each alone")?;
        for part in &self.parts {
            let (each, all) = (1e3 * part.seconds, 1e3 * part.total());
            writeln!(
                f,
                "{all:9.3} ms   {:3} x {each:8.4} ms   {}",
                part.count, part.name
            )?;
        }
        let sum: f64 = self.parts.iter().map(Part::total).sum();
        writeln!(f, "{:9.3} ms   in all", 1e3 * sum)
    }
}

/// Operations a second in the unit that suits a GPU or a CPU.
fn speed(operations: f64) -> String {
    match operations >= 1e12 {
        true => format!("{:.1} TFLOP/s", operations / 1e12),
        false => format!("{:.1} GFLOP/s", operations / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((spread.median, spread.least, spread.most), (2.5, 1.0, 4.0));
        assert_eq!(Spread::of(&[7.0]).median, 7.0);
    }
}
