//! The figures, as text and as JSON.

use std::fmt;

use serde_json::{json, Value};

use super::ceilings::{Ceilings, Work};
use super::parts::Part;
use crate::cli::shortcut_args::ShortcutArgs;
use crate::nn::PoolBytes;
use crate::pipeline::{Forwards, MemoryReport};

/// Seconds of every run of each stage.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Encoding one prompt.
    pub encode: Vec<f64>,
    /// One denoising step.
    pub step: Vec<f64>,
    /// Decoding to pixels on the host.
    pub decode: Vec<f64>,
    /// The part of an image's time during which none of its jobs is on the device's thread:
    /// tensors and messages are being sent.
    pub transport: Vec<f64>,
    /// The part of an image's time outside encodes, steps and decode: transport, and the jobs'
    /// other work.
    pub overhead: Vec<f64>,
    /// One image from prompts to pixels, as a client on the same machine measures it.
    pub image: Vec<f64>,
    /// The very first image, which may be a warm-up image.
    pub first_image: f64,
    /// Forward passes of one image; all images have the same number.
    pub forwards: Forwards,
}

impl Times {
    /// Appends the times of another image.
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

/// Statistics of a stage's times.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    /// The mean, unlike the median, reflects steps that the step cache shortens.
    mean: f64,
    least: f64,
    most: f64,
    count: usize,
}

impl Spread {
    /// Statistics of at least one value.
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

/// All figures and the settings they were measured with.
pub struct Report {
    pub model: String,
    pub device: String,
    pub precision: &'static str,
    /// The kernels and libraries the model computes with, in words.
    pub paths: String,
    /// Width and height in pixels.
    pub size: (usize, usize),
    pub steps: u32,
    pub cfg: f64,
    pub shortcuts: ShortcutArgs,
    pub load_seconds: f64,
    /// Seconds of the warm-up, which `serve` also does before it is ready.
    pub warm_up_seconds: f64,
    pub peak_bytes: u64,
    /// What tensors took of a GPU's memory.
    pub pool: Option<PoolBytes>,
    /// The plan within the budget of GPU memory; `None` on a CPU.
    pub memory: Option<MemoryReport>,
    /// Operations of a forward pass that is computed in full.
    pub forward: Work,
    /// Operations of a forward pass that the step cache answers.
    pub answered_forward: Work,
    pub ceilings: Ceilings,
    /// Operations of one forward pass; empty unless requested.
    pub parts: Vec<Part>,
    pub times: Times,
}

impl Report {
    /// Mean seconds of a step.
    fn step(&self) -> f64 {
        Spread::of(&self.times.step).mean
    }

    /// Mean operations of a step, without those that the step cache saved.
    fn work(&self) -> Work {
        let Forwards { asked, answered } = self.times.forwards;
        let a_step = |forwards: u64| forwards as f64 / f64::from(self.steps);
        a_step(asked - answered) * self.forward + a_step(answered) * self.answered_forward
    }

    /// Operations per second during the steps.
    fn achieved(&self) -> f64 {
        let work = self.work();
        (work.gemm + work.attention) / self.step()
    }

    /// Mean seconds that a step would take at peak throughput.
    fn floor(&self) -> f64 {
        self.ceilings.seconds(&self.work())
    }

    /// The figures as JSON, in seconds, bytes and operations per second.
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
            "pool": self.pool.map(|pool| json!({
                "limit": pool.limit,
                "most_reserved": pool.most_reserved,
                "most_used": pool.most_used,
            })),
            "memory": self.memory,
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
            "transport: the part of an image's time during which none of its jobs is on the device\n\
             overhead: the part of an image's time outside encodes, steps and decode"
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
            "a step       {} achieved; at this machine's peak for matrix products ({}) and \
             attention ({}) it would take {:.4} s, {:.0} % of the measured time",
            speed(self.achieved()),
            speed(self.ceilings.gemm),
            speed(self.ceilings.attention),
            self.floor(),
            100.0 * self.floor() / self.step()
        )?;
        if self.parts.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\noperations of a forward pass, each measured separately"
        )?;
        for part in &self.parts {
            let (each, all) = (1e3 * part.seconds, 1e3 * part.total());
            writeln!(
                f,
                "{all:9.3} ms   {:3} x {each:8.4} ms   {}",
                part.count, part.name
            )?;
        }
        let sum: f64 = self.parts.iter().map(Part::total).sum();
        writeln!(f, "{:9.3} ms   in total", 1e3 * sum)
    }
}

/// Operations per second, in TFLOP/s or GFLOP/s.
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
