//! The checkpoint's parts, and the precisions in which they fit.

use candle_core::Device;

use super::finding::{Finding, Report};
use crate::checkpoint::Checkpoint;
use crate::cli::error::CliError;
use crate::cli::loading::check_complete;
use crate::cli::model_args::ModelArgs;
use crate::cli::precision::Precision;
use crate::nn::{check_fp8, Placement};
use crate::pipeline::{shown_bytes, Parameters};

/// The named checkpoint's parts. Returns the checkpoint, if it can be opened.
pub fn parts(args: &ModelArgs, report: &mut Report) -> Option<Checkpoint> {
    let checkpoint = match Checkpoint::open(&args.checkpoint_or_demo()) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            report.add(Finding::fault("weights", error.into()));
            return None;
        }
    };
    let of_demo = match args.checkpoint().is_empty() {
        true => ", because no argument names another",
        false => "",
    };
    report.add(Finding::good(
        "weights",
        format!(
            "{} ({} layout){of_demo}",
            checkpoint.name,
            checkpoint.layout.name()
        ),
    ));
    for (name, part) in checkpoint.parts() {
        let path = part.path().display();
        let bytes = shown_bytes(part.bytes());
        report.add(Finding::good("weights", format!("{name}: {path}, {bytes}")));
    }
    if let Some(files) = &checkpoint.tokenizer {
        report.add(match files.load(checkpoint.embeddings()) {
            Ok(_) => Finding::good("weights", format!("tokenizer: {}", files.path().display())),
            Err(error) => Finding::fault("weights", error.into()),
        });
    }
    for note in &checkpoint.notes {
        report.add(Finding::note("weights", note, ""));
    }
    if let Err(error) = check_complete(&checkpoint) {
        report.add(Finding::fault("weights", error));
    }
    Some(checkpoint)
}

/// The memory that the weights take on a device in each precision. That of `chosen` must fit.
pub fn precisions(parameters: Parameters, chosen: &Placement, report: &mut Report) {
    for precision in Precision::USUAL {
        let placement = precision.placed(chosen.device.clone());
        let is_chosen = placement.precision() == chosen.precision();
        if precision == Precision::Fp8 && check_fp8(&chosen.device).is_err() {
            continue;
        }
        let name = placement.precision();
        let mark = if is_chosen { " (chosen)" } else { "" };
        let needed = shown_bytes(parameters.needed(&placement));
        let of = match placement.device {
            Device::Cpu => "memory",
            _ => "GPU memory",
        };
        report.add(match parameters.check_fit(&placement) {
            Ok(()) => Finding::good(
                "precision",
                format!("{name}{mark} takes {needed} of {of}, which is free"),
            ),
            Err(error) if is_chosen => Finding::fault("precision", CliError::from(error)),
            Err(error) => Finding::note("precision", error.to_string(), ""),
        });
    }
}
