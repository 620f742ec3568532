//! From arguments to a loaded pipeline, saying how far it is.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::model_args::ModelArgs;
use super::CliError;
use crate::checkpoint::{Checkpoint, LoadProgress, Watch};
use crate::nn::{describe_paths, Placement};
use crate::pipeline::{Parameters, Pipeline};

/// Percents between two reports of one part.
const REPORT_EVERY: u64 = 20;

/// Finds the named checkpoint, which must have every part that making an image
/// takes, before minutes are spent on loading those that are there.
///
/// # Errors
/// A file is not what it should be, or a part is missing.
pub fn open_whole(model: &ModelArgs) -> Result<Checkpoint, CliError> {
    let checkpoint = Checkpoint::open(&model.checkpoint_or_demo())?;
    match checkpoint.missing()[..] {
        [] => Ok(checkpoint),
        ref missing => Err(CliError::new(
            format!(
                "making an image takes parts that the named weights lack: {}",
                missing.join(", ")
            ),
            format!(
                "Name them with --transformer, --text-encoder, --vae and --tokenizer; {}",
                left_aside(&checkpoint)
            ),
        )),
    }
}

/// What was seen where a part is missing: most likely it is among what was left aside.
fn left_aside(checkpoint: &Checkpoint) -> String {
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

/// Loads all parts that a checkpoint has; `say` gets a line now and then.
///
/// # Errors
/// The weights do not fit, or a file is not what it should be.
pub fn load(
    checkpoint: &Checkpoint,
    placement: &Placement,
    say: impl Fn(&str) + Send + Sync + 'static,
) -> Result<Pipeline, CliError> {
    let started = Instant::now();
    let say = Arc::new(say);
    for note in &checkpoint.notes {
        say(note);
    }
    Parameters::of(checkpoint).check_fit(placement)?;
    checkpoint.watch(&reporter(say.clone()));
    let pipeline = Pipeline::load(checkpoint, placement)?;
    say(&format!(
        "loaded {} on {} as {} in {:.1} s",
        pipeline.name(),
        placement.device_name(),
        placement.precision(),
        started.elapsed().as_secs_f32()
    ));
    Ok(pipeline)
}

/// Prepares a loaded pipeline's GPU for the first job; `say` gets a line if there was
/// anything to do.
///
/// # Errors
/// The device fails.
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

/// What a pipeline computes with, on the thread where it does, after [`warm_up`].
///
/// # Errors
/// The device fails.
pub fn paths(pipeline: &Pipeline) -> Result<String, CliError> {
    let described = describe_paths(pipeline.placement());
    Ok(described.map_err(crate::pipeline::Error::from)?)
}

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
