//! From arguments to a loaded pipeline, with progress reports on the way.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::error::CliError;
use super::model_args::ModelArgs;
use super::planning::{self, Goal, Loading};
use crate::checkpoint::{Checkpoint, LoadProgress, Watch};
use crate::nn::{describe_paths, Placement};
use crate::pipeline::{Parameters, Pipeline, Sizes};

/// Percent of a part between two progress reports.
const REPORT_EVERY: u64 = 20;

/// Opens the named checkpoint, without loading weights, and checks that it has every part that
/// an image requires.
///
/// # Errors
/// A file cannot be read as a checkpoint, or a part is missing.
pub fn open_complete(model: &ModelArgs) -> Result<Checkpoint, CliError> {
    let checkpoint = Checkpoint::open(&model.checkpoint_or_demo())?;
    check_complete(&checkpoint)?;
    Ok(checkpoint)
}

/// Checks that a checkpoint has every part that an image requires.
///
/// # Errors
/// The parts that are missing, and the files that were left aside.
pub fn check_complete(checkpoint: &Checkpoint) -> Result<(), CliError> {
    match checkpoint.missing()[..] {
        [] => Ok(()),
        ref missing => Err(CliError::new(
            format!(
                "making an image takes parts that the named weights lack: {}",
                missing.join(", ")
            ),
            format!(
                "Name them with --transformer, --text-encoder, --vae and --tokenizer; {}",
                skipped_hint(checkpoint)
            ),
        )),
    }
}

/// Hint for a missing part: the files that were skipped, and why. The part is most likely one of
/// them.
fn skipped_hint(checkpoint: &Checkpoint) -> String {
    const MOST: usize = 3;
    let skipped = &checkpoint.skipped;
    let reasons: Vec<_> = skipped.iter().take(MOST).map(|s| &s.reason[..]).collect();
    match skipped.len() {
        0 => "inspect says what was found.".into(),
        n if n <= MOST => format!("left aside: {}.", reasons.join("; ")),
        n => format!(
            "left aside: {}; and {} more, which inspect names.",
            reasons.join("; "),
            n - MOST
        ),
    }
}

/// Loads all parts that a checkpoint has for a goal. `say` receives the checkpoint's notes and a line
/// for every [`REPORT_EVERY`] percent.
///
/// # Errors
/// The weights do not fit the budget or the device's memory, or a file cannot be read.
pub fn load(
    checkpoint: &Checkpoint,
    placement: &Placement,
    goal: &Goal,
    say: impl Fn(&str) + Send + Sync + 'static,
) -> Result<Pipeline, CliError> {
    let started = Instant::now();
    let say = Arc::new(say);
    for note in &checkpoint.notes {
        say(note);
    }
    let (sizes, parameters) = (Sizes::of(checkpoint), Parameters::of(checkpoint));
    let Loading { residence, report } =
        planning::for_loading(sizes, parameters, placement, goal, &*say)?;
    checkpoint.watch(&reporter(say.clone()));
    let pipeline = Pipeline::load_with(checkpoint, placement, &residence)?;
    let pipeline = pipeline.with_memory_report(report);
    say(&format!(
        "loaded {} on {} as {} in {:.1} s",
        pipeline.name(),
        placement.device_name(),
        placement.precision(),
        started.elapsed().as_secs_f32()
    ));
    Ok(pipeline)
}

/// Warms up a loaded pipeline's GPU, so that the first job does not wait for kernels to be
/// compiled and chosen. `say` receives a line on a GPU; on a CPU there is nothing to do.
///
/// # Errors
/// The device fails, or runs out of memory.
pub fn warm_up(pipeline: &Pipeline, say: impl Fn(&str)) -> Result<(), CliError> {
    let started = Instant::now();
    pipeline.warm_up()?;
    if !pipeline.placement().device.is_cpu() {
        say(&format!(
            "warmed up in {:.1} s",
            started.elapsed().as_secs_f32()
        ));
    }
    Ok(())
}

/// Describes the kernels and libraries that a pipeline computes with. Call it on the pipeline's
/// thread after [`warm_up`].
///
/// # Errors
/// The GPU's libraries cannot be queried.
pub fn paths(pipeline: &Pipeline) -> Result<String, CliError> {
    let described = describe_paths(pipeline.placement());
    Ok(described.map_err(crate::pipeline::Error::from)?)
}

/// A progress callback that passes a line to `say` when a part begins, every
/// [`REPORT_EVERY`] percent, and when a part is loaded.
fn reporter(say: Arc<impl Fn(&str) + Send + Sync + 'static>) -> Watch {
    let last = Mutex::new(("", 0));
    Arc::new(move |progress: LoadProgress| {
        let percent = progress.bytes * 100 / progress.total.max(1);
        let Ok(mut last) = last.lock() else { return };
        let is_due = last.0 != progress.part
            || percent >= last.1 + REPORT_EVERY
            || (percent == 100 && last.1 < 100);
        if is_due {
            *last = (progress.part, percent);
            say(&format!("loading {}: {percent} %", progress.part));
        }
    })
}
