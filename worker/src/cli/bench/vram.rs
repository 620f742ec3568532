//! The same images within several budgets of GPU memory, each by a process of its own, so that no
//! peak hides another.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::BenchArgs;
use crate::cli::error::CliError;
use crate::cli::terminal;
use crate::logging;
use crate::nn::check_gpu;
use crate::pipeline::shown_bytes;

/// Milliseconds between two readings of nvidia-smi.
const EVERY: &str = "20";

/// Longest time that nvidia-smi may take for its first reading.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures without a budget and within each, and prints a table.
///
/// # Errors
/// There is no GPU, or the run without a budget fails.
pub fn compare(args: &BenchArgs, budgets: &[u64]) -> Result<(), CliError> {
    let ordinal = ordinal(args.device.device.as_deref())?;
    let command = arguments(std::env::args_os().skip(1));
    let mut rows = Vec::new();
    for budget in std::iter::once(None).chain(budgets.iter().copied().map(Some)) {
        let name = budget.map_or_else(|| "no budget".into(), shown_bytes);
        logging::say(&format!("{name}:"));
        rows.push(Row {
            budget,
            measured: measure(&command, budget, ordinal)?,
        });
    }
    let table = Table { rows };
    match args.json {
        true => terminal::print(&format!("{:#}", table.json())),
        false => terminal::print(&table.to_string()),
    }
}

/// The GPU's number.
///
/// # Errors
/// The device is a CPU, which has no such budget, or the GPU cannot be used.
fn ordinal(device: Option<&str>) -> Result<usize, CliError> {
    let named = device.unwrap_or("cuda");
    let number = named.strip_prefix("cuda:").and_then(|i| i.parse().ok());
    let ordinal = number.unwrap_or(0);
    match (named == "cpu", check_gpu(ordinal)) {
        (false, Ok(())) => Ok(ordinal),
        (true, _) => Err(CliError::new(
            "budgets of GPU memory cannot be compared on a CPU",
            "--device names the GPU to use.",
        )),
        (false, Err(reason)) => Err(CliError::new(
            format!("budgets of GPU memory cannot be compared without a GPU: {reason}"),
            reason.hint(),
        )),
    }
}

/// The arguments of this process without `--vram` and `--json`.
fn arguments(all: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut is_value = false;
    for argument in all {
        let text = argument.to_str().unwrap_or_default();
        if is_value || text == "--json" || text.starts_with("--vram=") {
            is_value = false;
        } else if text == "--vram" {
            is_value = true;
        } else {
            kept.push(argument);
        }
    }
    kept
}

/// What a run within a budget gave.
enum Measured {
    /// Its report, and the most memory that nvidia-smi saw beside what was in use before.
    Done {
        report: Value,
        driver_peak: Option<u64>,
    },
    /// Why there is none, in a sentence.
    Refused(String),
}

/// Runs a process with the arguments and a budget.
fn measure(
    command: &[OsString],
    budget: Option<u64>,
    ordinal: usize,
) -> Result<Measured, CliError> {
    let failed = |why: &dyn fmt::Display| CliError::new(format!("a run cannot start: {why}"), "");
    let program = std::env::current_exe().map_err(|e| failed(&e))?;
    let smi = Smi::start(ordinal);
    let mut child = Command::new(program);
    child
        .args(command)
        .arg("--json")
        .env_remove("OVIS_WORKER_VRAM");
    if let Some(budget) = budget {
        child.arg(OsStr::new("--vram")).arg(budget.to_string());
    }
    let output = child
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|e| failed(&e))?;
    let driver_peak = smi.and_then(Smi::stop);
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout);
    match (output.status.success(), report) {
        (true, Ok(report)) => Ok(Measured::Done {
            report,
            driver_peak,
        }),
        _ => {
            let error = said
                .lines()
                .rev()
                .find_map(|line| line.strip_prefix("error: "));
            let why = error.unwrap_or("it ended without a report").to_owned();
            match budget {
                Some(_) => Ok(Measured::Refused(why)),
                None => Err(CliError::new(
                    format!("the run without a budget failed: {why}"),
                    "The budgets are compared with it.",
                )),
            }
        }
    }
}

/// nvidia-smi, read in the background.
struct Smi {
    child: Child,
    /// The memory that was in use at first, and the most since.
    most: Arc<AtomicU64>,
    before: u64,
    thread: JoinHandle<()>,
}

impl Smi {
    /// Starts it; `None` if it is not there or says nothing.
    fn start(ordinal: usize) -> Option<Self> {
        let mut child = Command::new("nvidia-smi")
            .args(["--query-gpu=memory.used", "--format=csv,noheader,nounits"])
            .args(["-i", &ordinal.to_string(), "-lms", EVERY])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let output = child.stdout.take()?;
        let most = Arc::new(AtomicU64::new(0));
        let seen = most.clone();
        let thread = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(bytes) = mebibytes(&line) {
                    seen.fetch_max(bytes, Ordering::Relaxed);
                }
            }
        });
        let begun = Instant::now();
        while most.load(Ordering::Relaxed) == 0 && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let before = most.load(Ordering::Relaxed);
        let smi = Self {
            child,
            most,
            before,
            thread,
        };
        match before {
            0 => smi.stop(),
            _ => return Some(smi),
        };
        None
    }

    /// Ends it. Returns the most memory in use since the start, beside what was in use then.
    fn stop(mut self) -> Option<u64> {
        // It has ended already if it cannot be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.thread.join();
        let most = self.most.load(Ordering::Relaxed);
        (self.before > 0).then(|| most.saturating_sub(self.before))
    }
}

/// Bytes of a number of MiB in a line.
fn mebibytes(line: &str) -> Option<u64> {
    line.trim().parse::<u64>().ok().map(|number| number << 20)
}

/// A line of the table.
struct Row {
    budget: Option<u64>,
    measured: Measured,
}

/// All lines, that without a budget first.
struct Table {
    rows: Vec<Row>,
}

impl Row {
    /// Median seconds of a stage.
    fn median(&self, stage: &str) -> Option<f64> {
        match &self.measured {
            Measured::Done { report, .. } => report["stages"][stage]["median"].as_f64(),
            Measured::Refused(_) => None,
        }
    }

    /// The most memory, and whether it is the driver's figure.
    fn peak(&self) -> Option<(u64, bool)> {
        match &self.measured {
            Measured::Done {
                report,
                driver_peak,
            } => match driver_peak {
                Some(bytes) => Some((*bytes, true)),
                None => report["peak_bytes"].as_u64().map(|bytes| (bytes, false)),
            },
            Measured::Refused(_) => None,
        }
    }
}

impl Table {
    /// A row's time of an image relative to that without a budget.
    fn ratio(&self, row: &Row) -> Option<f64> {
        Some(row.median("image")? / self.rows.first()?.median("image")?)
    }

    /// The rows with medians, ratios and peaks, and the report of each run.
    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let (report, refusal) = match &row.measured {
                Measured::Done { report, .. } => (Some(report), None),
                Measured::Refused(why) => (None, Some(why)),
            };
            json!({
                "budget": row.budget,
                "image_seconds": row.median("image"),
                "step_seconds": row.median("step"),
                "ratio": self.ratio(row),
                "peak_bytes": row.peak().map(|(bytes, _)| bytes),
                "is_peak_of_driver": row.peak().map(|(_, of_driver)| of_driver),
                "refusal": refusal,
                "report": report,
            })
        });
        json!({ "rows": rows.collect::<Vec<_>>() })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "budget         image     ratio   step        peak")?;
        for row in &self.rows {
            let budget = row.budget.map_or_else(|| "none".into(), shown_bytes);
            match (&row.measured, row.peak()) {
                (Measured::Refused(why), _) => writeln!(f, "{budget:<10}  refused: {why}")?,
                (_, peak) => writeln!(
                    f,
                    "{budget:<10} {:8.3} s  {:8.3} {:8.4} s  {}",
                    row.median("image").unwrap_or(0.0),
                    self.ratio(row).unwrap_or(0.0),
                    row.median("step").unwrap_or(0.0),
                    match peak {
                        Some((bytes, true)) => shown_bytes(bytes),
                        Some((bytes, false)) => format!("{} by the worker", shown_bytes(bytes)),
                        None => "unknown".into(),
                    }
                )?,
            }
        }
        write!(
            f,
            "medians; the ratio is to the run without a budget; the peak is what nvidia-smi saw beside \
             what was in use before"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(budget: Option<u64>, image: f64, driver_peak: Option<u64>) -> Row {
        let stages = json!({"image": {"median": image}, "step": {"median": image / 50.0}});
        let report = json!({"stages": stages, "peak_bytes": 5u64 << 30});
        Row {
            budget,
            measured: Measured::Done {
                report,
                driver_peak,
            },
        }
    }

    #[test]
    fn a_child_gets_all_arguments_but_those_of_the_table() {
        let given = [
            "bench",
            "--vram",
            "8G,6G",
            "--steps",
            "4",
            "--json",
            "--vram=4G",
            "--parts",
        ];
        let kept = arguments(given.into_iter().map(OsString::from));
        assert_eq!(
            kept,
            ["bench", "--steps", "4", "--parts"].map(OsString::from)
        );
    }

    #[test]
    fn a_table_compares_with_the_run_without_a_budget() {
        let refused = Row {
            budget: Some(1 << 30),
            measured: Measured::Refused("it does not fit".into()),
        };
        let rows = vec![
            done(None, 8.0, Some(20 << 30)),
            done(Some(8 << 30), 8.4, None),
            refused,
        ];
        let table = Table { rows };
        let text = table.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].starts_with("none          8.000 s     1.000   0.1600 s  20.0 GiB"),
            "{text}"
        );
        assert!(
            lines[2].contains("1.050") && lines[2].ends_with("5.0 GiB by the worker"),
            "{text}"
        );
        assert_eq!(lines[3], "1.0 GiB     refused: it does not fit");
        let json = table.json();
        assert_eq!(json["rows"][1]["ratio"], 1.05);
        assert_eq!(json["rows"][2]["refusal"], "it does not fit");
        assert_eq!(json["rows"][0]["is_peak_of_driver"], true);
    }

    #[test]
    fn a_cpu_has_no_budgets_to_compare() {
        let error = ordinal(Some("cpu")).unwrap_err();
        assert!(error.message.contains("on a CPU"), "{error}");
        assert_eq!(mebibytes(" 1024 "), Some(1 << 30));
        assert_eq!(mebibytes("[N/A]"), None);
    }
}
